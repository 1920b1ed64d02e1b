#!lua flags=allow-oom
-- Puts a replica on the list, takes off those not seen for a while, and tells who is
-- on it.
-- KEYS  1 replicas
-- ARGV  1 id  2 when it started, as text that sorts  3 the rest of what it says, JSON
--       4 how long a replica is kept that is not seen, ms  5 1 if this process was on the
--       list before
-- Returns  {0, now ms, id, entry, …}. {1}: another process is on it under this id
--       since, and started earlier; nothing is changed. An entry is
--       {"seen_ms":…,"started":"…",…}. O(replicas).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local list = redis.call('HGETALL', KEYS[1])
local gone, answer = {}, {0, string.format('%.0f', now)}
for i = 1, #list, 2 do
  local seen, started = string.match(list[i + 1], '^{"seen_ms":(%d+),"started":"([^"]*)"')
  if list[i] == ARGV[1] then
    if ARGV[5] == '1' and started and started < ARGV[2] and math.abs(now - tonumber(seen)) <= tonumber(ARGV[4]) then return {1} end
  elseif seen and math.abs(now - tonumber(seen)) <= tonumber(ARGV[4]) then
    answer[#answer + 1] = list[i]; answer[#answer + 1] = list[i + 1]
  else
    gone[#gone + 1] = list[i]
  end
end
local entry = '{"seen_ms":' .. answer[2] .. ',"started":"' .. ARGV[2] .. '",' .. ARGV[3] .. '}'
answer[#answer + 1] = ARGV[1]; answer[#answer + 1] = entry
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
redis.call('HSET', KEYS[1], ARGV[1], entry)
return answer
