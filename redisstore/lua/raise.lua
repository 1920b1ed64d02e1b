#!lua flags=allow-oom
-- Raises the schema of the layout by a step, if it is what it is thought to be.
-- KEYS  1 layout
-- ARGV  1 schema and 2 oldest reader, as they are  3 schema and 4 oldest reader, to be
-- Returns  {1}: raised. {0}: another has changed it; nothing is changed. O(1).
local is = redis.call('HMGET', KEYS[1], 'schema', 'oldest_reader')
if is[1] ~= ARGV[1] or is[2] ~= ARGV[2] then return {0} end
redis.call('HSET', KEYS[1], 'schema', ARGV[3], 'oldest_reader', ARGV[4])
return {1}
