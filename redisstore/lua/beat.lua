#!lua flags=allow-oom
-- Counts one heartbeat of a worker. What it returns shows when Redis is what it was
-- before: see losses.go.
-- KEYS  1 workers  then schedules
-- ARGV  1 worker
-- Returns  {0, its heartbeats, plans in the schedules or -1}. O(schedules).
local plans = 0
for i = 2, #KEYS do
  local n = redis.pcall('ZCARD', KEYS[i])
  plans = plans >= 0 and type(n) == 'number' and plans + n or -1
end
return {0, redis.call('HINCRBY', KEYS[1], ARGV[1], 1), plans}
