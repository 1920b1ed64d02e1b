#!lua flags=allow-oom
-- Counts one heartbeat of a worker.
-- KEYS  1 workers
-- ARGV  1 worker
-- Returns  {0}. O(1).
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
return {0}
