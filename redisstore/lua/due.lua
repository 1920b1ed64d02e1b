#!lua flags=no-writes
-- Reads the page of a schedule that follows an entry, oldest first, wherever that is.
-- KEYS  1 schedule:<action>  2 edits
-- ARGV  1 the last second, s  2 limit  3 and 4 the entry: its second, its key
-- Returns  {0, edits, '' if there is none, key, …}. O(log schedule + limit).
local call = redis.call
local edits = call('GET', KEYS[2]) or ''
local function before(a, b) -- by bytes; Lua's < asks the locale
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
-- In the order of a sorted set, by second and then by the bytes of the key, the
-- page begins behind the entry, which may be gone by now.
local start = call('ZSCORE', KEYS[1], ARGV[4])
if start and tonumber(start) == tonumber(ARGV[3]) then
  start = call('ZRANK', KEYS[1], ARGV[4]) + 1
else
  start = call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[3])
  local stop = start + call('ZCOUNT', KEYS[1], ARGV[3], ARGV[3])
  local middle = start -- first, since what was before has mostly been claimed
  while start < stop do
    if before(ARGV[4], call('ZRANGE', KEYS[1], middle, middle)[1]) then stop = middle else start = middle + 1 end
    middle = math.floor((start + stop) / 2)
  end
end
local stop = math.min(start + ARGV[2], call('ZCOUNT', KEYS[1], '-inf', ARGV[1]))
if start >= stop then return {0, edits} end
return {0, edits, unpack(call('ZRANGE', KEYS[1], start, stop - 1))}
