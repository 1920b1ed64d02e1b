#!lua flags=allow-oom
-- Counts one heartbeat of a worker. What it returns shows when Redis is what it was
-- before: see losses.go. It has one key: while a slot of a Cluster moves, a script with
-- several is refused until all are on one side, and for as long as one of them is not there.
-- KEYS  1 workers
-- ARGV  1 worker
-- Returns  {0, its heartbeats}. O(1).
return {0, redis.call('HINCRBY', KEYS[1], ARGV[1], 1)}
