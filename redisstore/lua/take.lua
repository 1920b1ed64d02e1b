#!lua flags=allow-oom
-- Hands queued firings to a worker, oldest first.
-- KEYS  1 workers, then 2 an action: firings:<action>, held:<action>:<worker>
-- ARGV  1 worker  2 this take, unique: receipts are <take>-<n>, n from 1 in the
--       order of the answer  3 how many at most  then for each action: how many
-- Returns  {0, 1 if 3 ended it else 0, entries of the first action, of the second …}
-- O(n).
redis.call('HSETNX', KEYS[1], ARGV[1], 0)
local left, taken, reply = tonumber(ARGV[3]), 0, {0, 0}
for a = 1, (#KEYS - 1) / 2 do
  local want = tonumber(ARGV[3 + a])
  redis.call('HLEN', KEYS[2 * a + 1]) -- or fails before anything is taken for it
  local items = {}
  if left > 0 then items = redis.call('LPOP', KEYS[2 * a], math.min(want, left)) or items end
  if #items == left and want > left then reply[2] = 1 end
  left = left - #items
  local pairs = {}
  for i = 1, #items do
    taken = taken + 1
    pairs[2 * i - 1], pairs[2 * i] = ARGV[2] .. '-' .. taken, items[i]
  end
  if #items > 0 then redis.call('HSET', KEYS[2 * a + 1], unpack(pairs)) end
  reply[a + 2] = items
end
return reply
