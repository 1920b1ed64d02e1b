#!lua flags=no-writes
-- Reads a page of a schedule, oldest first.
-- KEYS  1 schedule:<action>
-- ARGV  1 and 2 from and to, s, inclusive  3 limit  then nothing, or the last entry
--       before the page: 4 its second  5 its key
-- Returns  {0, key, second, key, second, …}. O(log schedule + limit).
if not ARGV[4] then
  local r = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
  table.insert(r, 1, 0)
  return r
end
-- In the order of a sorted set, by second and then by the bytes of the key, the
-- page begins behind the last entry, which may be gone by now.
local function before(a, b) -- by bytes; Lua's < asks the locale
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local start = redis.call('ZSCORE', KEYS[1], ARGV[5])
if start and tonumber(start) == tonumber(ARGV[4]) then
  start = redis.call('ZRANK', KEYS[1], ARGV[5]) + 1
else
  start = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[4])
  local stop = start + redis.call('ZCOUNT', KEYS[1], ARGV[4], ARGV[4])
  while start < stop do
    local middle = math.floor((start + stop) / 2)
    if before(ARGV[5], redis.call('ZRANGE', KEYS[1], middle, middle)[1]) then stop = middle else start = middle + 1 end
  end
end
local reply, to = {0}, tonumber(ARGV[2])
local r = redis.call('ZRANGE', KEYS[1], start, start + ARGV[3] - 1, 'WITHSCORES')
for i = 1, #r, 2 do
  if tonumber(r[i + 1]) > to then break end
  reply[#reply + 1] = r[i]; reply[#reply + 1] = r[i + 1]
end
return reply
