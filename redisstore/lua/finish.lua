#!lua flags=allow-oom
-- Ends deliveries of one action that a worker holds, each by its verdict.
-- KEYS  1 held:<action>:<worker>  2 firings:<action>  3 retries  4 deferred
--       5 backlog  6 changed  7 changed:old  8 dead  9 history  10 history:sizes
--       11 quarantine  12… firing:<id> of each that ends, and plan:<key> or
--       retry:<key> that a verdict names
-- ARGV  1 action  2 channel  3 event  4 dead letters kept  5, 6, 7 history kept:
--       attempts, bytes, ms  then 8 a delivery: verdict, receipt, key, n (KEYS[n] is
--       firing:<id>, 0: none), m (KEYS[m] is what the verdict names, 0: nothing),
--       revision, its attempt as JSON ('': none), and what the verdict asks for:
--       D done    names the plan         -
--       R retry   names retry:<key>      at, ms; its JSON lacks the outcome, see below
--       B bury    names the plan         error
--       F defer   names retry:<key>, or nothing (then deferred)  at, ms
--       T return  -                      -
-- Returns  {0, answers}: O done, C cancelled, N not held, B bad. O(n).
local sub = string.sub
local count, action = (#ARGV - 7) / 8, ARGV[1]
local receipts = {}
for i = 1, count do receipts[i] = ARGV[1 + 8 * i] end
local held = redis.call('HMGET', KEYS[1], unpack(receipts))
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answers, removed, ended, journal, back = {}, {}, {}, {}, {}
local entries, bytes, size = 0, 0, 0
local parts = '^(%x+ %d+ %-?%d+ %d+) (%d+) (%d+) (%-?%d+)()'
local function set_status(plan, revision, status)
  local h = redis.pcall('GETRANGE', plan, 0, 120)
  if type(h) ~= 'string' or sub(h, 14, 29) ~= revision then return end
  if sub(h, 56, 71) == '"current_count":' then
    if sub(h, 119, 120) ~= status then redis.call('SETRANGE', plan, 118, status) end
  else
    redis.call('SET', plan, sub(h, 1, 55) .. string.format('"current_count":%-10d,"last_timeout":%-11d,"status":%s,', 0, 0, status) .. sub(redis.call('GET', plan), 56))
  end
end
for i = 1, count do
  local a = 8 * i
  local verdict, receipt, key, record, ask = ARGV[a], receipts[i], ARGV[a + 2], ARGV[a + 6], ARGV[a + 7]
  local firing, named = KEYS[tonumber(ARGV[a + 3])], KEYS[tonumber(ARGV[a + 4])]
  local e, answer, ends = held[i], 'O', true
  if not e or removed[receipt] then
    answer, record, ends = 'N', '', false
  else
    removed[receipt] = true
    removed[#removed + 1] = receipt
    if verdict == 'T' then
      back[#back + 1] = e
      ends = false
    elseif verdict == 'R' or verdict == 'F' then
      local front, attempt, delivery, claimed, rest = string.match(e, parts)
      local last = front and verdict == 'R' and claimed ~= '-1' and (redis.call('HGET', KEYS[6], key) or redis.call('HGET', KEYS[7], key))
      if not front then
        redis.call('HSET', KEYS[11], 'firing ' .. action .. '/' .. receipt, 'its entry cannot be read\n' .. e)
        answer = 'B'
      elseif last and tonumber(last) > tonumber(claimed) then
        answer = 'C'
        record = record ~= '' and '{"outcome":"cancelled",' .. record or ''
      else
        record = record ~= '' and '{"outcome":"failed","retry_at":' .. ask .. ',' .. record or ''
        if verdict == 'R' then attempt, delivery = attempt + 1, 1 end
        local free = verdict == 'F' and attempt == '1'
        local member = (free and 'd' or 'r') .. sub(e, 1, 32) .. ':' .. action .. ':' .. key
        redis.call('ZADD', KEYS[3], ask, member)
        redis.call('HSET', free and KEYS[4] or named, member, front .. ' ' .. attempt .. ' ' .. delivery .. ' ' .. claimed .. sub(e, rest))
        ends = false
      end
    elseif verdict == 'D' then
      if named then set_status(named, ARGV[a + 5], '1 ') end
    elseif verdict == 'B' then
      if named then set_status(named, ARGV[a + 5], '-1') end
      redis.call('XADD', KEYS[8], 'MAXLEN', ARGV[4], '*', 'key', key, 'error', ask, 'entry', e, 'plan', firing and redis.call('GET', firing) or '')
    end
  end
  if ends then
    entries, bytes = entries - 1, bytes - (string.match(e, '^%d+', 34) or 0)
    if firing then ended[#ended + 1] = firing end
  end
  if record ~= '' then journal[#journal + 1] = record; size = size + #record end
  answers[i] = answer
end
if #removed > 0 then redis.call('HDEL', KEYS[1], unpack(removed)) end
if #ended > 0 then redis.call('UNLINK', unpack(ended)) end
if #back > 0 then
  redis.call('LPUSH', KEYS[2], unpack(back))
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
if entries ~= 0 then
  redis.call('HINCRBY', KEYS[5], action, entries)
  redis.call('HINCRBY', KEYS[5], ':total', entries)
end
if bytes ~= 0 then redis.call('HINCRBY', KEYS[5], action .. ':bytes', bytes) end
if #journal > 0 then
  redis.call('XADD', KEYS[9], '*', 'attempts', table.concat(journal, '\n'))
  redis.call('RPUSH', KEYS[10], #journal .. ':' .. size .. ':' .. now)
  local n = redis.call('HINCRBY', KEYS[5], ':history', #journal)
  local kept = redis.call('HINCRBY', KEYS[5], ':history:bytes', size)
  for _ = 1, 4 do
    local oldest, b, at = string.match(redis.call('LINDEX', KEYS[10], 0) or '', '^(%d+):(%d+):(%d+)$')
    if not oldest or n <= tonumber(ARGV[5]) and kept <= tonumber(ARGV[6]) and tonumber(at) > now - ARGV[7] then break end
    redis.call('LPOP', KEYS[10])
    redis.call('XTRIM', KEYS[9], 'MAXLEN', redis.call('XLEN', KEYS[9]) - 1)
    n = redis.call('HINCRBY', KEYS[5], ':history', -oldest)
    kept = redis.call('HINCRBY', KEYS[5], ':history:bytes', -b)
  end
end
return {0, table.concat(answers)}
