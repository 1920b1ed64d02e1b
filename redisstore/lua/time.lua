#!lua flags=no-writes
-- Tells the time of the node that has a shard.
-- KEYS  1 leader (says which shard; it is not read)
-- Returns  {0, seconds, microseconds}. O(1).
local now = redis.call('TIME')
return {0, now[1], now[2]}
