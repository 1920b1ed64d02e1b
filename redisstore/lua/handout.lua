#!lua flags=allow-oom
-- Claims plans of one action that are what they were when they were read, as a bundle
-- for the worker that asks, or for the first that takes it: the way that nearly all
-- firings go. Anything else is for claim.lua.
-- KEYS  1 leader  2 schedule:<action>  3 index  4 backlog  5 changes  6 edits
--       7 workers  8 bundles:<action>:<worker> or bundles:<action>  9 unpack
--       10 bundle:<take>  then plan:<key> of the plans that end, then of those that go on, no key twice
-- ARGV  1 lease's value  2 leader's second  3 skew of the store's clock, ms
--       4 and 5 backlog's bounds, firings and bytes, 0: none  6 action
--       7 the latest second that a firing is due at  8 bytes of all the plans
--       9 worker, '': the first that takes it  10 the take, its name ends in +<how many>
--       (see bundle.go)  11 edits when the plans were read, '' if there was none
--       12 channel  13 event  14 how many plans end  15 '1' if those are given in the
--       order of the schedule  then, 16 and on, their keys, and of each plan that goes on
--       its key, its next due s, its beginning as it was read, its beginning to be
-- Returns  {0}: claimed; edits is the take now. {1}: fenced. {7}: nothing was done,
--       claim.lua is to tell why. O(n log schedule).
-- What makes a script slow is not commands but strings: Lua copies, hashes and collects
-- each that it sees. So what the plans carry is not read: edits is another after whatever
-- was done to any plan but storing a new one; and the bundle was stored before, for a
-- minute, which this makes for good.
local call = redis.call
if call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
if (call('GET', KEYS[6]) or '') ~= ARGV[11] then return {7} end
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
if math.min(math.floor(now / 1000), tonumber(ARGV[2])) < tonumber(ARGV[7]) then return {7} end
local used, n, ends, worker = call('HMGET', KEYS[4], ARGV[6], ARGV[6] .. ':bytes'), #KEYS - 10, tonumber(ARGV[14]), ARGV[9]
local entries, bytes = tonumber(used[1] or 0), tonumber(used[2] or 0)
local max_entries, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
if max_entries > 0 and entries + n > max_entries or max_bytes > 0 and bytes + ARGV[8] >= max_bytes then return {7} end
if call('EXISTS', unpack(KEYS, 10)) ~= n + 1 then return {7} end
local first = ARGV[15] == '1' and call('ZRANK', KEYS[2], ARGV[16])
-- Nothing else stands between them, unless it came since they were read.
if first and call('ZRANK', KEYS[2], ARGV[15 + ends]) ~= first + ends - 1 then first = false end
for i = ends + 1, n do
  local a = 16 + ends + 4 * (i - ends - 1)
  if redis.pcall('GETRANGE', KEYS[10 + i], '0', #ARGV[a + 2] - 1) ~= ARGV[a + 2] then return {7} end
end
local changes = call('GET', KEYS[5]) or '0'
if worker == '' then
  call('RPUSH', KEYS[8], ARGV[10] .. ' ' .. changes .. ' ' .. ARGV[7]) -- first: until all fits nothing is to last
else
  call('HSETNX', KEYS[7], worker, '0')
  call('HSET', KEYS[8], ARGV[10], changes, ARGV[10] .. ':done', '')
  call('HINCRBY', KEYS[8], '#', n)
end
call('PERSIST', KEYS[10])
if ends > 0 then
  call('UNLINK', unpack(KEYS, 11, 10 + ends))
  if first then call('ZREMRANGEBYRANK', KEYS[2], first, first + ends - 1) -- a third of what ZREM costs
  else call('ZREM', KEYS[2], unpack(ARGV, 16, 15 + ends)) end
  if call('ZREM', KEYS[3], unpack(ARGV, 16, 15 + ends)) < ends then redis.pcall('RPUSH', KEYS[9], unpack(ARGV, 16, 15 + ends)) end
end
local due_again = {}
for i = ends + 1, n do
  local a = 16 + ends + 4 * (i - ends - 1)
  call('SETRANGE', KEYS[10 + i], '0', ARGV[a + 3])
  due_again[#due_again + 1], due_again[#due_again + 2] = ARGV[a + 1], ARGV[a]
end
if #due_again > 0 then call('ZADD', KEYS[2], unpack(due_again)) end
call('SET', KEYS[6], ARGV[10])
call('HINCRBY', KEYS[4], ARGV[6], n)
call('HINCRBY', KEYS[4], ARGV[6] .. ':bytes', ARGV[8])
call('HINCRBY', KEYS[4], ':total', n)
if worker == '' then call('PUBLISH', ARGV[12], ARGV[13]) end
return {0}
