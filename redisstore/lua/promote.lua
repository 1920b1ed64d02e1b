#!lua flags=allow-oom
-- Queues again firings that wait and whose time has come.
-- KEYS  1 leader  2 retries  3 deferred  then 2 a firing: firings:<action>, and
--       retry:<key> (or deferred once more)
-- ARGV  1 lease's value  2 leader's time, ms  3 skew of the store's clock, ms
--       4 channel  5 event  then their members in retries
-- Returns  {1}: fenced. {0, how many, when the next is due in ms, or ''}. O(n log retries).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
local t = redis.call('TIME')
local now = math.min(tonumber(ARGV[2]), t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3])
local n = 0
for i = 6, #ARGV do
  local member, queue, where = ARGV[i], KEYS[2 * i - 8], KEYS[2 * i - 7]
  local at = redis.call('ZSCORE', KEYS[2], member)
  if at and tonumber(at) <= now then
    local f = redis.pcall('HGET', where, member)
    if type(f) == 'string' then
      redis.call('RPUSH', queue, f) -- first: what it fails on stays
      redis.call('HDEL', where, member)
      n = n + 1
    end -- else it is lost: of another type, or deleted by hand
    redis.call('ZREM', KEYS[2], member)
  end
end
if n > 0 then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {0, n, first[2] or ''}
