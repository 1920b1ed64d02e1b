#!lua flags=allow-oom
-- Ends deliveries of one action that a worker holds, each by its verdict.
-- KEYS  1 held:<action>:<worker>  2 firings:<action>  3 retries  4 deferred
--       5 backlog  6 changed  7 changed:old  8 dead  9 history  10 history:sizes
--       11 quarantine  12 garbage  13… firing:<id> of each that ends, and plan:<key> or
--       retry:<key> that a verdict names
-- ARGV  1 action  2 channel  3 event  4 dead letters kept  5, 6, 7 history kept:
--       attempts, bytes, ms  then 8 a delivery: verdict, receipt, key, n (KEYS[n] is
--       firing:<id>, 0: none), m (KEYS[m] is what the verdict names, 0: nothing),
--       revision, its attempt as JSON ('': none), and what the verdict asks for:
--       D done, B bury    names the plan; B asks for the error
--       R retry           names retry:<key>; at, ms; its JSON lacks the outcome, see below
--       F defer           names retry:<key>, or nothing (then deferred); at, ms
--       T return          -
-- Returns  {0, answers}: O done, C cancelled, N not held, B bad. O(n).
local sub, count, action = string.sub, (#ARGV - 7) / 8, ARGV[1]
local receipts, changed = {}, {}
for i = 1, count do
  local a = 8 * i
  receipts[i] = ARGV[a + 1]
  if ARGV[a] == 'R' then changed[i] = redis.call('HGET', KEYS[6], ARGV[a + 2]) or redis.call('HGET', KEYS[7], ARGV[a + 2]) end
end
local held = redis.call('HMGET', KEYS[1], unpack(receipts))
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answers, removed, ended, journal, back, entries, bytes, size = {}, {}, {}, {}, {}, 0, 0, 0
local parts = '^(%x+ %d+ %-?%d+ %d+) (%d+) (%d+) (%-?%d+)()'
local function set_status(plan, revision, status)
  local h = redis.pcall('GETRANGE', plan, 0, 120)
  if type(h) ~= 'string' or sub(h, 14, 29) ~= revision then return end
  if sub(h, 56, 71) == '"current_count":' then redis.call('SETRANGE', plan, 118, status) return end
  local rest = sub(redis.call('GET', plan), 56)
  redis.call('SET', plan, sub(h, 1, 55) .. string.format('"current_count":%-10d,"last_timeout":%-11d,"status":%s,', 0, 0, status) .. rest)
end
local function payload(firing)
  local plan = firing and redis.pcall('GET', firing)
  return type(plan) == 'string' and plan or ''
end
for i = 1, count do
  local a = 8 * i
  local verdict, receipt, key, record, ask = ARGV[a], receipts[i], ARGV[a + 2], ARGV[a + 6], ARGV[a + 7]
  local firing, named = KEYS[tonumber(ARGV[a + 3])], KEYS[tonumber(ARGV[a + 4])]
  local e, answer, outcome, ends = held[i], 'O', '', verdict ~= 'T'
  if not e or removed[receipt] then
    answer, record, ends = 'N', '', false
  else
    removed[receipt], removed[#removed + 1] = true, receipt
    if verdict == 'R' or verdict == 'F' then
      local front, attempt, delivery, claimed, rest = string.match(e, parts)
      if front and claimed ~= '-1' and changed[i] and tonumber(changed[i]) > tonumber(claimed) then
        answer, outcome = 'C', '{"outcome":"cancelled",'
      else
        local free = verdict == 'F' and attempt == '1'
        if front and verdict == 'R' then attempt, delivery = attempt + 1, 1 end
        local member = (free and 'd' or 'r') .. sub(e, 1, 32) .. ':' .. action .. ':' .. key
        ends = not front or type(redis.pcall('HSET', free and KEYS[4] or named, member, front .. ' ' .. attempt .. ' ' .. delivery .. ' ' .. claimed .. sub(e, rest))) ~= 'number'
        if ends then -- its entry cannot be read, or retry:<key> is of another type
          redis.call('HSET', KEYS[11], 'firing ' .. action .. '/' .. receipt, 'it cannot wait for its retry\n' .. e .. '\n' .. payload(firing))
          answer, outcome = 'B', '{"outcome":"failed",'
        else
          redis.call('ZADD', KEYS[3], ask, member)
          outcome = '{"outcome":"failed","retry_at":' .. ask .. ','
        end
      end
    elseif verdict == 'T' then table.insert(back, 1, e) -- so that the first is taken first
    elseif named then set_status(named, ARGV[a + 5], verdict == 'D' and '1 ' or '-1') end
    if verdict == 'B' then redis.call('XADD', KEYS[8], 'MAXLEN', ARGV[4], '*', 'key', key, 'error', ask, 'entry', e, 'plan', payload(firing)) end
  end
  if ends then
    entries, bytes, ended[#ended + 1] = entries - 1, bytes - (string.match(e, '^%d+', 34) or 0), firing
  end
  if record ~= '' then journal[#journal + 1] = (verdict == 'R' and outcome or '') .. record; size = size + #journal[#journal] end
  answers[i] = answer
end
if #back > 0 then redis.call('LPUSH', KEYS[2], unpack(back)); redis.call('PUBLISH', ARGV[2], ARGV[3]) end
if #removed > 0 then redis.call('HDEL', KEYS[1], unpack(removed)) end -- what fails before stays held
if #ended > 0 then redis.call('UNLINK', unpack(ended)) end
for field, by in pairs({[action] = entries, [':total'] = entries, [action .. ':bytes'] = bytes}) do
  if by ~= 0 then redis.call('HINCRBY', KEYS[5], field, by) end
end
if #journal == 0 then return {0, table.concat(answers)} end
-- The history: as in done.lua.
redis.call('XADD', KEYS[9], '*', 'attempts', table.concat(journal, '\n'))
local lines, n = redis.call('RPUSH', KEYS[10], #journal .. ':' .. size .. ':' .. now), redis.call('HINCRBY', KEYS[5], ':history', #journal)
local kept, drop, fewer, less, most = redis.call('HINCRBY', KEYS[5], ':history:bytes', size), 0, 0, 0, #journal + 4
local anew = lines ~= redis.call('XLEN', KEYS[9])
if anew then n, kept, drop = #journal, size, lines - 1 end
if n > 1.1 * ARGV[5] or kept > 1.1 * ARGV[6] then most = 1000 end
while drop < most do
  local some, b, at, id = string.match(redis.call('LINDEX', KEYS[10], drop) or '', '^(%d+):(%d+):(%d+):?(.*)$')
  if not some or n - fewer <= tonumber(ARGV[5]) and kept - less <= tonumber(ARGV[6]) and tonumber(at) > now - ARGV[7] then break end
  if id ~= '' then redis.call('RPUSH', KEYS[12], 'attempts:' .. id) end
  drop, fewer, less = drop + 1, fewer + some, less + b
end
if anew or drop > 0 then
  redis.call('LTRIM', KEYS[10], drop, -1)
  redis.call('XTRIM', KEYS[9], 'MAXLEN', lines - drop)
  redis.call('HSET', KEYS[5], ':history', n - fewer, ':history:bytes', kept - less)
end
return {0, table.concat(answers)}
