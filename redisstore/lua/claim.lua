#!lua flags=allow-oom
-- Claims due plans of one action: compares, advances and enqueues in one step.
-- KEYS  1 leader  2 schedule:<action>  3 index  4 firings:<action>  5 backlog
--       6 changes  7 quarantine  8… for each claim, no key twice: plan:<key>,
--       firing:<id>
-- ARGV  1 lease's value  2 leader's second  3 skew of the store's clock, ms
--       4 and 5 backlog's bounds, firings and bytes, 0: none  6 action
--       7 bound of what one run enqueues, bytes  8 channel  9 event
--       then 8 a claim: key, firing's id, revision (16 hex digits), due s,
--       fire at s, missed, next due s or 0, size of the plan in bytes or 0
-- Returns  {1}: fenced. {0, answers, wait ms of each N …}: an answer is C claimed,
--       H changed, G gone, B bad, N not yet, F full, L not looked at (past 7).
-- O(n log schedule). What is read and checked is done before the first write.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
local sub, action = string.sub, ARGV[6]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
local second, cutoff = math.floor(now / 1000), tonumber(ARGV[2])
local max_entries, max_bytes, bound = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[7])
local used = redis.call('HMGET', KEYS[5], action, action .. ':bytes')
local entries, bytes = tonumber(used[1] or 0), tonumber(used[2] or 0)
local changes = redis.call('GET', KEYS[6]) or '0'
local field = '"action":"' .. action .. '",'
local upto = 120 + #field
local answers, reply = {}, {0, ''}
local queue, due_again, ended, unscheduled, gone, poison = {}, {}, {}, {}, {}, {}
local again, renamed = {}, {}
local size = 0
for i = 1, (#KEYS - 7) / 2 do
  local a = 2 + 8 * i
  local key, due, fire, next = ARGV[a], tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4]), tonumber(ARGV[a + 6])
  local name, firing, answer, rest = KEYS[6 + 2 * i], KEYS[7 + 2 * i], 'C', 56
  local v = redis.pcall('GETRANGE', name, 0, upto)
  local was, fired, status
  if v ~= '' and type(v) == 'string' then -- positions: see codec.go
    was = sub(v, 1, 13) == '{"revision":"' and sub(v, 30, 43) == '","next_time":' and tonumber(sub(v, 44, 54))
    fired, status = 0, '0'
    if was and sub(v, 56, 71) == '"current_count":' then
      fired, status, rest = tonumber(sub(v, 72, 81)), string.match(sub(v, 119, 120), '^(-?[01])'), 122
    end
  end
  if v == '' then answer = 'G'; gone[#gone + 1] = key
  elseif not was or not fired or not status or sub(v, rest, rest + 9) ~= '"action":"' then
    answer = 'B'; poison[#poison + 1] = {key, name}
  elseif sub(v, rest, rest + #field - 1) ~= field then answer = 'G'; unscheduled[#unscheduled + 1] = key
  elseif sub(v, 14, 29) ~= ARGV[a + 2] or was ~= due then answer = 'H'
  elseif fire < due or next ~= 0 and (next <= due or next <= fire) then answer = 'B'
  elseif fire > cutoff or fire > second then
    answer = 'N'
    reply[#reply + 1] = fire > second and fire * 1000 - now or 0
  elseif max_entries > 0 and entries >= max_entries or max_bytes > 0 and bytes >= max_bytes then answer = 'F'
  elseif size >= bound then answer = 'L'
  else
    local n = ARGV[a + 7]
    if n == '0' then n = redis.call('STRLEN', name) end
    if next == 0 then
      ended[#ended + 1] = key; renamed[#renamed + 1] = name; renamed[#renamed + 1] = firing
    else
      due_again[#due_again + 1] = ARGV[a + 6]; due_again[#due_again + 1] = key
      again[#again + 1] = {name, firing, rest == 56, string.format('{"revision":"%s","next_time":%-11s,"current_count":%-10d,"last_timeout":%-11s,"status":%-2s,',
        ARGV[a + 2], ARGV[a + 6], fired + 1, ARGV[a + 4], status)}
    end
    queue[#queue + 1] = ARGV[a + 1] .. ' ' .. n .. ' ' .. ARGV[a + 4] .. ' ' .. ARGV[a + 5] .. ' 1 1 ' .. changes .. ' ' ..
      ARGV[a + 6] .. ' ' .. fired + 1 .. ' ' .. status .. ' ' .. key
    entries, bytes, size = entries + 1, bytes + n, size + n
  end
  answers[i] = answer
end
for _, p in ipairs(poison) do
  local t = redis.call('TYPE', p[2])['ok']
  redis.call('HSET', KEYS[7], p[1], t == 'string' and 'its beginning cannot be read\n' .. redis.call('GET', p[2]) or 'not a string: ' .. t .. '\n' .. redis.call('DUMP', p[2]))
  redis.call('DEL', p[2]); redis.call('ZREM', KEYS[2], p[1]); redis.call('ZREM', KEYS[3], p[1])
end
-- The plan becomes the firing's payload, or is copied: what it holds never comes
-- through Lua, which would hash and keep every long string it sees.
for i = 1, #renamed, 2 do redis.call('RENAME', renamed[i], renamed[i + 1]) end
for _, r in ipairs(again) do
  redis.call('COPY', r[1], r[2], 'REPLACE')
  if r[3] then redis.call('SET', r[1], r[4] .. sub(redis.call('GET', r[1]), 56)) else redis.call('SETRANGE', r[1], 0, r[4]) end
end
if #queue > 0 then
  redis.call('RPUSH', KEYS[4], unpack(queue))
  redis.call('HSET', KEYS[5], action, entries, action .. ':bytes', bytes)
  redis.call('HINCRBY', KEYS[5], ':total', #queue)
end
if #due_again > 0 then redis.call('ZADD', KEYS[2], unpack(due_again)) end
if #ended > 0 then
  redis.call('ZREM', KEYS[2], unpack(ended))
  redis.call('ZREM', KEYS[3], unpack(ended))
end
for _, key in ipairs(gone) do redis.call('ZREM', KEYS[2], key); redis.call('ZREM', KEYS[3], key) end
for _, key in ipairs(unscheduled) do redis.call('ZREM', KEYS[2], key) end
if #queue > 0 then redis.call('PUBLISH', ARGV[8], ARGV[9]) end
reply[2] = table.concat(answers)
return reply
