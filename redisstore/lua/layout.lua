#!lua flags=allow-oom
-- Sets what the whole deployment must agree on, where it is not set, and tells it.
-- KEYS  1 layout
-- ARGV  field, value, …
-- Returns  {1, field, value, …}: set as given. {0, field, value, …}: what was set
--       before; nothing is changed. O(fields).
local set = redis.call('HGETALL', KEYS[1])
if #set > 0 then return {0, unpack(set)} end
redis.call('HSET', KEYS[1], unpack(ARGV))
return {1, unpack(ARGV)}
