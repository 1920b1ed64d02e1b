#!lua
-- Stores plans of one action, each created or overwritten; overwriting cancels
-- pending retries.
-- KEYS  1 index  2 retries  3 backlog  4 changes  5 changed  6 changed:old
--       7 quarantine  8 actions  9 garbage  10 edits  11 unpack  12 schedule:<action>  then the
--       schedules of m other actions, then 2 a plan, no plan twice: plan:<key>,
--       retry:<key>
-- ARGV  1 the store's time after which nothing is stored any more, ms, 0: none
--       2 changes remembered  3 channel  4 event if the soonest is due within 2 s
--       5 the soonest due s  6 action  7 1: no plan is replaced, else 0  8 m  then the
--       names of the m other actions, then 3 a plan: key, due s, the plan as JSON, then
--       a new value of edits
-- Returns  {0, answers, 1 if there is garbage to be collected else 0}: an answer is S
--       stored, R stored in place of another, K kept, since it is the same revision, E
--       not stored, since there is another plan. {2, action}: nothing was done, run it
--       with that action's schedule, too. {3}: too late.
-- O(n log plans).
local call, find, sub = redis.call, string.find, string.sub
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[1] ~= '0' and now > tonumber(ARGV[1]) then return {3} end
local m = tonumber(ARGV[8])
local schedules = {[ARGV[6]] = KEYS[12]}
for a = 1, m do schedules[ARGV[8 + a]] = KEYS[12 + a] end
local count = (#KEYS - 12 - m) / 2
local waiting = call('EXISTS', KEYS[2]) == 1
local answers, cancel, elsewhere, found = {}, {}, {}, {}
local stored = {S = true, R = true}
for i = 1, count do
  local h = redis.pcall('GETRANGE', KEYS[11 + m + 2 * i], '0', '255') -- its head, see codec.go, and its action
  answers[i] = 'S'
  if h ~= '' then answers[i] = 'R'; found[i] = true end -- of another type, too
  if type(h) == 'string' and h ~= '' then
    if sub(h, 1, 29) == sub(ARGV[8 + m + 3 * i], 1, 29) then
      answers[i] = 'K'
    elseif ARGV[7] == '1' and sub(h, 1, 13) == '{"revision":"' then
      answers[i] = 'E'
    else
      local rest = find(h, '"current_count":', 56, true) == 56 and 122 or 56
      local was = string.match(h, '^"action":"([^"]*)"', rest)
      if was and not schedules[was] then return {2, was} end
      if was ~= ARGV[6] then elsewhere[i] = schedules[was] end
    end
  end
  if waiting and stored[answers[i]] then
    local r = redis.pcall('HGETALL', KEYS[12 + m + 2 * i])
    if r.err or #r > 0 then cancel[i] = r; found[i] = true end
  end
end
local values = {}
local S, R = {keys = {}, index = {}, places = {}}, {keys = {}, index = {}, places = {}} -- by answer
local poisoned = call('EXISTS', KEYS[7]) == 1
local unfinished = next(found) and tonumber(call('HGET', KEYS[3], ':total') or 0) or 0
for i = 1, count do
  if stored[answers[i]] then
    local a = 6 + m + 3 * i
    local key, n = ARGV[a], #values
    values[n + 1], values[n + 2] = KEYS[11 + m + 2 * i], ARGV[a + 2]
    local to = answers[i] == 'R' and R or S
    n = #to.index
    to.keys[#to.keys + 1] = key
    to.index[n + 1], to.index[n + 2] = '0', key
    to.places[n + 1], to.places[n + 2] = ARGV[a + 1], key
    if elsewhere[i] then call('ZREM', elsewhere[i], key) end
    for j = 1, cancel[i] and #cancel[i] or 0, 2 do
      local member, entry = cancel[i][j], cancel[i][j + 1]
      local was = string.match(member, '^.[^:]*:([^:]*):') or ''
      call('ZREM', KEYS[2], member)
      call('HINCRBY', KEYS[3], was, -1)
      call('HINCRBY', KEYS[3], was .. ':bytes', -(string.match(entry, '^%d+', 34) or 0))
      call('HINCRBY', KEYS[3], ':total', -1)
      call('RPUSH', KEYS[9], sub(entry, 1, 32))
    end
    if cancel[i] then call('DEL', KEYS[12 + m + 2 * i]) end
    if found[i] and unfinished > 0 then call('HSET', KEYS[5], key, call('INCR', KEYS[4])) end
    if poisoned then call('HDEL', KEYS[7], key) end
  end
end
if #values > 0 then
  call('MSET', unpack(values))
  local edited = next(found)
  for _, to in ipairs({S, R}) do
    if #to.keys > 0 then
      local n, indexed, scheduled = #to.keys, call('ZADD', KEYS[1], unpack(to.index)), call('ZADD', KEYS[12], unpack(to.places))
      edited = edited or indexed < n or scheduled < n -- a plan was deleted by hand: see new.lua
      if indexed > 0 and (to == R or scheduled < n) then redis.pcall('RPUSH', KEYS[11], unpack(to.keys)) end -- they are in runs, too
    end
  end
  if edited then call('SET', KEYS[10], ARGV[#ARGV]) end
  call('SADD', KEYS[8], ARGV[6])
  if ARGV[5] * 1000 <= now + 2000 then call('PUBLISH', ARGV[3], ARGV[4]) end
end
if unfinished > 0 and call('HLEN', KEYS[5]) > tonumber(ARGV[2]) then call('RENAME', KEYS[5], KEYS[6]) end
return {0, table.concat(answers), next(cancel) and 1 or 0}
