#!lua flags=allow-oom
-- Counts one heartbeat of a worker. What it returns shows when Redis is what it was
-- before: see losses.go.
-- KEYS  1 workers  2 index
-- ARGV  1 worker
-- Returns  {0, its heartbeats, plans in the shard or -1}. O(1).
local plans = redis.pcall('ZCARD', KEYS[2])
return {0, redis.call('HINCRBY', KEYS[1], ARGV[1], 1), type(plans) == 'number' and plans or -1}
