-- Claims due jobs and leases them to the caller.
-- KEYS: 1 schedule, sorted set: job -> due second; 2 leases, the same. Payloads are at plan:<job>.
-- ARGV: 1 due second, 2 how many. Returns the jobs, then their payloads. O(n log N).
local jobs = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
local n = #jobs
if n == 0 then
  return {}
end
local plans, leases = {}, {}
for i, job in ipairs(jobs) do
  plans[i] = 'plan:' .. job
  leases[2 * i - 1], leases[2 * i] = ARGV[1], job
end
for i, payload in ipairs(redis.call('MGET', unpack(plans))) do
  jobs[n + i] = payload
end
redis.call('ZADD', KEYS[2], unpack(leases))
redis.call('ZREM', KEYS[1], unpack(jobs, 1, n))
redis.call('DEL', unpack(plans))
return jobs
