#!lua flags=allow-oom
-- Takes a replica that stops off the list.
-- KEYS  1 replicas
-- ARGV  1 id  2 when it started
-- Returns  {0}: done. {1}: it is not on it, or another process is by its id. O(1).
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry or string.match(entry, '^{"seen_ms":%d+,"started":"([^"]*)"') ~= ARGV[2] then return {1} end
redis.call('HDEL', KEYS[1], ARGV[1])
return {0}
