#!lua flags=allow-oom
-- Forgets a worker that holds nothing and whose heartbeat stands still.
-- KEYS  1 leader  2 workers  then held:<action>:<worker> and bundles:<action>:<worker>
--       of every action
-- ARGV  1 lease's value  2 worker  3 its counter
-- Returns  {1}: fenced. {0}. O(actions).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
if (redis.call('HGET', KEYS[2], ARGV[2]) or '0') ~= ARGV[3] then return {0} end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return {0} end
end
redis.call('HDEL', KEYS[2], ARGV[2])
return {0}
