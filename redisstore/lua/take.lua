#!lua flags=allow-oom
-- Hands queued firings to a worker, oldest first.
-- KEYS  1 workers, then 2 an action: firings:<action>, held:<action>:<worker>
-- ARGV  1 worker  2 this take, unique: receipts are <take>-<n>, n from 1 in the
--       order of the answer  3 bound of firings  4 bound of bytes, both passed by
--       less than one step of 20  then for each action: how many
-- Returns  {0, 1 if a bound ended it else 0, firings of the first action, of the second …}
-- O(n).
redis.call('HSETNX', KEYS[1], ARGV[1], 0)
local most, bound = tonumber(ARGV[3]), tonumber(ARGV[4])
local taken, bytes, reply = 0, 0, {0, 0}
for a = 1, (#KEYS - 1) / 2 do
  local queue, held = KEYS[2 * a], KEYS[2 * a + 1]
  local want, out = tonumber(ARGV[4 + a]), {}
  while want > 0 do
    if taken >= most or bytes >= bound then reply[2] = 1 break end
    local items = redis.call('LPOP', queue, math.min(want, 20))
    if not items then break end
    local pairs = {}
    for i = 1, #items do
      taken = taken + 1
      pairs[2 * i - 1], pairs[2 * i] = ARGV[2] .. '-' .. taken, items[i]
      out[#out + 1] = items[i]
      bytes = bytes + #items[i]
    end
    redis.call('HSET', held, unpack(pairs))
    want = want - #items
  end
  reply[a + 2] = out
end
return reply
