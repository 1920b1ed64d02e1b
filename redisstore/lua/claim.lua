#!lua flags=allow-oom
-- Claims due plans of one action: compares, advances and enqueues in one step.
-- KEYS  1 leader  2 schedule:<action>  3 index  4 firings:<action>  5 backlog
--       6 changes  7 quarantine  8 workers  9 held:<action>:<worker>  10 edits  11 unpack
--       12… for each claim, no key twice: plan:<key>, firing:<id>
-- ARGV  1 lease's value  2 leader's second  3 skew of the store's clock, ms
--       4 and 5 backlog's bounds, firings and bytes, 0: none  6 action
--       7 the latest second that a firing is due at  8 bytes of all the plans
--       9 channel  10 event  11 worker  12 its take (see take.lua)  13 how many of the
--       claimed it is handed, the first ones  then 4 a claim: key, beginning of the
--       plan as it was read (planHead in codec.go), beginning of the entry up to
--       changes (see firing.go), next due s or 0
-- Returns  {1}: fenced. {0, answers, edits as it was, wait ms of each N …}: an answer
--       is C claimed, H changed, G gone, B bad, N not yet, F full. edits is the take now.
-- O(n log schedule). What is read and checked is done before the first write. Numbers
-- stay text: to turn one into the other costs as much as a command.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
local find, sub, match, action, call = string.find, string.sub, string.match, ARGV[6], redis.call
local now = call('TIME'); now = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3]
local second = math.min(math.floor(now / 1000), tonumber(ARGV[2]))
local used = call('HMGET', KEYS[5], action, action .. ':bytes')
local entries, bytes = tonumber(used[1] or 0), tonumber(used[2] or 0)
call('LLEN', KEYS[4]); if ARGV[13] ~= '0' then call('HLEN', KEYS[8]); call('HLEN', KEYS[9]) end -- or fails before a plan is renamed
local count, max_entries, max_bytes = (#KEYS - 11) / 2, tonumber(ARGV[4]), tonumber(ARGV[5])
local early = second < tonumber(ARGV[7])
local tight = max_entries > 0 and entries + count > max_entries or max_bytes > 0 and bytes + ARGV[8] >= max_bytes
local changes = ' ' .. (call('GET', KEYS[6]) or '0') .. ' '
local field, upto = '"action":"' .. action .. '",', tostring(130 + #action + 2)
local answers, reply = {}, {0, '', call('GET', KEYS[10]) or ''} -- and what is to be done:
local queue, due_again, ended, unscheduled, gone, poison, again, once = {}, {}, {}, {}, {}, {}, {}, {}
for i = 1, count do
  local a = 10 + 4 * i
  local key, head, entry, next = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local name, answer, rest, fired, status = KEYS[10 + 2 * i], 'C', 56, '1', '0'
  local v = redis.pcall('GETRANGE', name, '0', upto)
  local same = type(v) == 'string' and find(v, head, 1, true) == 1
  if same and find(v, '"current_count":', 56, true) == 56 then -- positions: see codec.go
    local n, s = match(v, '^(%d+) *,"last_timeout":%-?%d+ *,"status":(%-?[01]) ?,"', 72)
    fired, status, rest = n and n + 1, s, 122
  end
  if v == '' and call('EXISTS', name) == 0 then answer = 'G'; gone[#gone + 1] = key
  elseif not same then
    answer = 'H' -- unless it is none of ours any more, or cannot be read
    rest = type(v) == 'string' and find(v, '"action":"', 56, true)
    if not rest or not find(v, '^{"revision":"%x+","next_time":%-?%d+ *,"') then answer = 'B'; poison[#poison + 1] = {key, name}
    elseif find(v, field, rest, true) ~= rest then answer = 'G'; unscheduled[#unscheduled + 1] = key end
  elseif not fired or find(v, '"action":"', rest, true) ~= rest then answer = 'B'; poison[#poison + 1] = {key, name}
  elseif find(v, field, rest, true) ~= rest then answer = 'G'; unscheduled[#unscheduled + 1] = key
  elseif early and tonumber(match(entry, '^%x+ %d+ (%-?%d+)')) > second then
    answer, reply[#reply + 1] = 'N', math.max(0, match(entry, '^%x+ %d+ (%-?%d+)') * 1000 - now)
  elseif tight and (max_entries > 0 and entries >= max_entries or max_bytes > 0 and bytes >= max_bytes) then answer = 'F'
  else
    if next == '0' then ended[#ended + 1] = key; once[#once + 1] = i
    else
      due_again[#due_again + 1] = next; due_again[#due_again + 1] = key
      again[#again + 1] = {name, KEYS[11 + 2 * i], rest, string.format('%s%-11s,"current_count":%-10d,"last_timeout":%-11s,"status":%-2s,',
        sub(head, 1, 43), next, fired, match(entry, '^%x+ %d+ (%-?%d+)'), status)}
    end
    queue[#queue + 1] = entry .. changes .. next .. ' ' .. fired .. ' ' .. status .. ' ' .. key
    if tight then entries, bytes = entries + 1, bytes + match(entry, '^%d+', 34) end
  end
  answers[i] = answer
end
if not tight then entries, bytes = entries + #queue, bytes + ARGV[8] end
for i = 1, not tight and #queue < count and count or 0 do
  if answers[i] ~= 'C' then bytes = bytes - match(ARGV[12 + 4 * i], '^%d+', 34) end
end
call('SET', KEYS[10], ARGV[12])
for _, p in ipairs(poison) do
  local kind = call('TYPE', p[2])['ok']
  call('HSET', KEYS[7], p[1], kind == 'string' and 'its beginning cannot be read\n' .. call('GET', p[2]) or 'not a string: ' .. kind .. '\n' .. call('DUMP', p[2]))
  call('DEL', p[2]); call('ZREM', KEYS[2], p[1]); gone[#gone + 1] = p[1]
end
-- The plan becomes the firing's payload, or is copied: what it holds never comes
-- through Lua, which would hash and keep every long string it sees.
for _, i in ipairs(once) do call('RENAME', KEYS[10 + 2 * i], KEYS[11 + 2 * i]) end
for _, r in ipairs(again) do
  call('COPY', r[1], r[2], 'REPLACE')
  if r[3] == 56 then call('SET', r[1], r[4] .. sub(call('GET', r[1]), 56)) else call('SETRANGE', r[1], '0', r[4]) end
end
local own = math.min(tonumber(ARGV[13]), #queue)
if own > 0 then
  local held = {}
  for i = 1, own do held[2 * i - 1], held[2 * i] = ARGV[12] .. '-' .. i, queue[i] end
  call('HSETNX', KEYS[8], ARGV[11], '0')
  call('HSET', KEYS[9], unpack(held))
end
if own < #queue then call('RPUSH', KEYS[4], unpack(queue, own + 1)); call('PUBLISH', ARGV[9], ARGV[10]) end
if #queue > 0 then
  call('HSET', KEYS[5], action, entries, action .. ':bytes', bytes)
  call('HINCRBY', KEYS[5], ':total', #queue)
end
if #due_again > 0 then call('ZADD', KEYS[2], unpack(due_again)) end
for _, keys in ipairs({ended, gone}) do
  if #keys > 0 then call('ZREM', KEYS[2], unpack(keys)) end
  if #keys > 0 and call('ZREM', KEYS[3], unpack(keys)) < #keys then redis.pcall('RPUSH', KEYS[11], unpack(keys)) end
end
for _, key in ipairs(unscheduled) do call('ZREM', KEYS[2], key) end
reply[2] = table.concat(answers)
return reply
