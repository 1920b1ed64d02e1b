#!lua flags=allow-oom
-- Takes away a lease that nobody renews and that does not run out, since the
-- clock of Redis was set back.
-- KEYS  1 leader
-- ARGV  1 the lease  2 what was left of it when it was looked at last, ms
-- Returns  {0}: taken away. {1}: it is another one, or it was renewed since. O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then return {1} end
redis.call('DEL', KEYS[1])
return {0}
