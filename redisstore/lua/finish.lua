#!lua flags=allow-oom
-- Ends deliveries of one action that a worker holds, each by its verdict.
-- KEYS  1 held:<action>:<worker>  2 firings:<action>  3 retries  4 deferred
--       5 backlog  6 changed  7 changed:old  8 dead  9 history  10 history:sizes
--       11 quarantine  12… plan:<key> or retry:<key> that a verdict names
-- ARGV  1 action  2 channel  3 event  4 dead letters kept  5, 6, 7 history kept:
--       attempts, bytes, ms  then 7 a delivery: verdict, receipt, key, a number n
--       (KEYS[11 + n] is what the verdict names, 0: none), revision, its attempt as
--       JSON ('' : none), and what the verdict asks for:
--       D done    plan                    -
--       R retry   retry:<key>  <at ms>:<firing id>; the JSON lacks its beginning, see below
--       B bury    plan                    error
--       F defer   retry:<key> or 0 (deferred)  <at ms>:<firing id>
--       T return  -                       -
-- Returns  {0, answers}: O done, C cancelled, N not held, B bad. O(n).
local sub = string.sub
local count, action = (#ARGV - 7) / 7, ARGV[1]
local receipts = {}
for i = 1, count do receipts[i] = ARGV[2 + 7 * i] end
local held = redis.call('HMGET', KEYS[1], unpack(receipts))
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answers, removed, journal, back = {}, {}, {}, {}
local entries, bytes, size = 0, 0, 0
local head = '^{"due":(%-?%d+),"missed":(%d+),"attempt":(%d+),"delivery":(%d+),"changes":(%-?%d+),()'
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
  local a = 1 + 7 * i
  local verdict, receipt, key, record, ask = ARGV[a], receipts[i], ARGV[a + 2], ARGV[a + 5], ARGV[a + 6]
  local named = ARGV[a + 3] ~= '0' and KEYS[11 + ARGV[a + 3]]
  local f, answer = held[i], 'O'
  if not f or removed[receipt] then
    answer, record = 'N', ''
  else
    removed[receipt] = true
    removed[#removed + 1] = receipt
    local due, missed, attempt, delivery, claimed, rest
    if verdict == 'R' or verdict == 'F' then due, missed, attempt, delivery, claimed, rest = string.match(f, head) end
    local stays = false
    if verdict == 'T' then
      back[#back + 1] = f
      stays = true
    elseif (verdict == 'R' or verdict == 'F') and not due then
      redis.call('HSET', KEYS[11], key .. ' ' .. receipt, 'its beginning cannot be read\n' .. f)
      answer = 'B'
    elseif verdict == 'R' or verdict == 'F' then
      local at, id = string.match(ask, '^(%-?%d+):(.*)$')
      local last = tonumber(claimed) >= 0 and verdict == 'R' and (redis.call('HGET', KEYS[6], key) or redis.call('HGET', KEYS[7], key))
      if last and tonumber(last) > tonumber(claimed) then
        answer = 'C'
        record = record ~= '' and '{"outcome":"cancelled",' .. record or ''
      else
        record = record ~= '' and '{"outcome":"failed","retry_at":' .. at .. ',' .. record or ''
        local waits = f
        if verdict == 'R' then
          waits = '{"due":' .. due .. ',"missed":' .. missed .. ',"attempt":' .. attempt + 1 .. ',"delivery":1,"changes":' .. claimed .. ',' .. sub(f, rest)
        end
        local free = verdict == 'F' and attempt == '1'
        local member = (free and 'd' or 'r') .. id .. ':' .. action .. ':' .. key
        redis.call('ZADD', KEYS[3], at, member)
        redis.call('HSET', free and KEYS[4] or named, member, waits)
        bytes = bytes + #waits - #f
        stays = true
      end
    elseif verdict == 'D' then
      if named then set_status(named, ARGV[a + 4], '1 ') end
    elseif verdict == 'B' then
      if named then set_status(named, ARGV[a + 4], '-1') end
      redis.call('XADD', KEYS[8], 'MAXLEN', ARGV[4], '*', 'key', key, 'error', ask, 'firing', f)
    end
    if not stays then entries, bytes = entries - 1, bytes - #f end
  end
  if record ~= '' then journal[#journal + 1] = record; size = size + #record end
  answers[i] = answer
end
if #removed > 0 then redis.call('HDEL', KEYS[1], unpack(removed)) end
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
