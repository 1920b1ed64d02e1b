#!lua flags=allow-oom
-- Removes a plan and cancels its pending retries.
-- KEYS  1 plan:<key>  2 retry:<key>  3 index  4 retries  5 backlog  6 changes
--       7 changed  8 changed:old  9 quarantine  10 garbage  11 edits  12 packed  13 unpack  then
--       the schedules of the actions
-- ARGV  1 the store's time after which nothing is removed any more, ms, 0: none
--       2 key  3 changes remembered  then the actions' names, then a new value of
--       edits
-- Returns  {0, the plan}; {1} no such plan, nothing changed; {2, action}: nothing was
--       done, run it with that action's schedule, too; {3} too late; {4, entry}: only
--       a retry was left; {5}: what was removed cannot be decoded. {0 and {4 have a
--       last value, 1 if there is garbage to be collected else 0.
-- O(log plans), and O(retries of the plan).
local t = redis.call('TIME')
if ARGV[1] ~= '0' and t[1] * 1000 + math.floor(t[2] / 1000) > tonumber(ARGV[1]) then return {3} end
local key = ARGV[2]
local v = redis.pcall('GET', KEYS[1])
local exists = v and true
local action
if type(v) == 'string' and string.sub(v, 1, 13) == '{"revision":"' then
  local rest = string.sub(v, 56, 71) == '"current_count":' and 122 or 56
  action = string.match(v, '^"action":"([^"]*)"', rest)
end
local schedules, known = {}, not action
for a = 14, #KEYS do
  if ARGV[a - 10] == action then schedules, known = {KEYS[a]}, true break end
  schedules[#schedules + 1] = KEYS[a]
end
if not known then return {2, action} end
local retries = redis.pcall('HGETALL', KEYS[2])
if retries.err then retries = {} end -- of another type
local function unlist()
  local n = redis.call('ZREM', KEYS[3], key)
  for _, s in ipairs(schedules) do n = n + redis.call('ZREM', s, key) end
  local run = redis.pcall('ZRANGE', KEYS[12], '(' .. key .. '\11', '-', 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  local there = run and string.find('\n' .. run .. '\n', '\n' .. key .. '\n', 1, true)
  -- Without a plan it may wait there already, and more and more often while nobody leads.
  if there and (exists or (tonumber(redis.pcall('LLEN', KEYS[13])) or 0) < 1000) then redis.pcall('RPUSH', KEYS[13], key) end
  return n
end
if not exists and #retries == 0 then
  -- What a hand left that deleted the plan; who creates it anew finds nothing of it.
  if unlist() > 0 then redis.call('SET', KEYS[11], ARGV[#ARGV]) end
  if redis.call('HDEL', KEYS[9], key) == 1 then return {5} end
  return {1}
end
local unfinished = tonumber(redis.call('HGET', KEYS[5], ':total') or 0)
if exists then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[11], ARGV[#ARGV])
  unlist()
end
for j = 1, #retries, 2 do
  local was = string.match(retries[j], '^.[^:]*:([^:]*):') or ''
  redis.call('ZREM', KEYS[4], retries[j])
  redis.call('HINCRBY', KEYS[5], was, -1)
  redis.call('HINCRBY', KEYS[5], was .. ':bytes', -(string.match(retries[j + 1], '^%d+', 34) or 0))
  redis.call('RPUSH', KEYS[10], string.sub(retries[j + 1], 1, 32))
  redis.call('HINCRBY', KEYS[5], ':total', -1)
end
redis.call('DEL', KEYS[2])
if unfinished > 0 then
  redis.call('HSET', KEYS[7], key, redis.call('INCR', KEYS[6]))
  if redis.call('HLEN', KEYS[7]) > tonumber(ARGV[3]) then redis.call('RENAME', KEYS[7], KEYS[8]) end
end
if not exists then return {4, retries[2], 1} end
if not action then return {5} end
return {0, v, #retries > 0 and 1 or 0}
