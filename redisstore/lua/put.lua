#!lua
-- Stores plans, each created or overwritten; overwriting cancels pending retries.
-- KEYS  1 index  2 retries  3 backlog  4 changes  5 changed  6 changed:old
--       7 quarantine  8 actions  9 garbage  then the schedules of m actions, then 2 a
--       plan, no plan twice: plan:<key>, retry:<key>
-- ARGV  1 the store's time after which nothing is stored any more, ms, 0: none
--       2 changes remembered  3 channel  4 event's beginning  5 m  then the names
--       of the m actions, then 5 a plan: key, number of its action, due s, revision
--       (16 hex digits), the plan as JSON
-- Returns  {0, answers, 1 if there is garbage to be collected else 0}: an answer is S
--       stored, K kept, since it is the same revision. {2, action}: nothing was done,
--       run it with that action's schedule, too. {3}: too late.
-- O(n log plans).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[1] ~= '0' and now > tonumber(ARGV[1]) then return {3} end
local sub, m = string.sub, tonumber(ARGV[5])
local schedules = {}
for a = 1, m do schedules[ARGV[5 + a]] = KEYS[9 + a] end
local plans = {}
for i = 1, (#KEYS - 9 - m) / 2 do plans[i] = KEYS[8 + m + 2 * i] end
local old = {}
for i = 1, #plans do -- its head, see codec.go, and its action
  local h = redis.pcall('GETRANGE', plans[i], 0, 255)
  old[i] = type(h) == 'string' and h ~= '' and h
end
local waiting = redis.call('EXISTS', KEYS[2]) == 1
local answers, cancel, before, found = {}, {}, {}, {}
for i = 1, #plans do
  local v, a = old[i], 5 + m + 5 * (i - 1)
  answers[i] = 'S'
  if v then
    found[i] = true
    if sub(v, 14, 29) == ARGV[a + 4] and sub(v, 1, 13) == '{"revision":"' then
      answers[i] = 'K'
    else
      local rest = sub(v, 56, 71) == '"current_count":' and 122 or 56
      before[i] = string.match(v, '^"action":"([^"]*)"', rest)
      if before[i] and not schedules[before[i]] then return {2, before[i]} end
    end
  end
  if waiting and answers[i] == 'S' then
    local r = redis.call('HGETALL', KEYS[9 + m + 2 * i])
    if #r > 0 then cancel[i] = r; found[i] = true end
  end
end
local values, index, used, soonest = {}, {}, {}, nil
local poisoned = redis.call('EXISTS', KEYS[7]) == 1
local unfinished = next(found) and tonumber(redis.call('HGET', KEYS[3], ':total') or 0) or 0
for i = 1, #plans do
  if answers[i] == 'S' then
    local a = 5 + m + 5 * (i - 1)
    local key, action, due = ARGV[a + 1], ARGV[5 + ARGV[a + 2]], ARGV[a + 3]
    values[#values + 1] = plans[i]; values[#values + 1] = ARGV[a + 5]
    index[#index + 1] = 0; index[#index + 1] = key
    used[action] = used[action] or {}
    local u = used[action]
    u[#u + 1] = due; u[#u + 1] = key
    if before[i] and before[i] ~= action then redis.call('ZREM', schedules[before[i]], key) end
    if cancel[i] then
      for j = 1, #cancel[i], 2 do
        local member = cancel[i][j]
        local was = string.match(member, '^.[^:]*:([^:]*):') or ''
        redis.call('ZREM', KEYS[2], member)
        redis.call('HINCRBY', KEYS[3], was, -1)
        redis.call('HINCRBY', KEYS[3], was .. ':bytes', -(string.match(cancel[i][j + 1], '^%d+', 34) or 0))
        redis.call('RPUSH', KEYS[9], string.sub(cancel[i][j + 1], 1, 32))
        redis.call('HINCRBY', KEYS[3], ':total', -1)
      end
      redis.call('DEL', KEYS[9 + m + 2 * i])
    end
    if found[i] and unfinished > 0 then redis.call('HSET', KEYS[5], key, redis.call('INCR', KEYS[4])) end
    if poisoned then redis.call('HDEL', KEYS[7], key) end
    if tonumber(due) * 1000 <= now + 2000 and (not soonest or tonumber(due) < soonest) then soonest = tonumber(due) end
  end
end
if #values > 0 then
  redis.call('MSET', unpack(values))
  redis.call('ZADD', KEYS[1], unpack(index))
  for action, u in pairs(used) do
    redis.call('ZADD', schedules[action], unpack(u))
    redis.call('SADD', KEYS[8], action)
  end
end
if unfinished > 0 and redis.call('HLEN', KEYS[5]) > tonumber(ARGV[2]) then redis.call('RENAME', KEYS[5], KEYS[6]) end
if soonest then redis.call('PUBLISH', ARGV[3], ARGV[4] .. string.format('%.0f', soonest)) end
return {0, table.concat(answers), next(cancel) and 1 or 0}
