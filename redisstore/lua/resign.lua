#!lua flags=allow-oom
-- Gives a lease up and says so.
-- KEYS  1 leader
-- ARGV  1 the lease  2 channel  3 event
-- Returns  {0}: given up. {1}: it was not the current one. O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {0}
