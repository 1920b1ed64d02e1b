-- Claims due jobs into a stream.
-- KEYS: 1 schedule, sorted set: job -> due second; 2 the stream. Payloads are at plan:<job>.
-- ARGV: 1 due second, 2 how many. Returns how many it claimed. O(n log N).
local jobs = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
if #jobs == 0 then
  return 0
end
local plans = {}
for i, job in ipairs(jobs) do
  plans[i] = 'plan:' .. job
end
for _, payload in ipairs(redis.call('MGET', unpack(plans))) do
  redis.call('XADD', KEYS[2], '*', 'p', payload)
end
redis.call('ZREM', KEYS[1], unpack(jobs))
redis.call('DEL', unpack(plans))
return #jobs
