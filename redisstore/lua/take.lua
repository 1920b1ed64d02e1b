#!lua flags=allow-oom
-- Hands queued firings to a worker, oldest first, and then bundles.
-- KEYS  1 workers, then 4 an action: firings:<action>, held:<action>:<worker>,
--       bundles:<action>, bundles:<action>:<worker>
-- ARGV  1 worker  2 this take, unique: receipts are <take>-<n>, n from 1 in the
--       order of the answer  3 how many at most  then for each action: how many
-- Returns  {0, 1 if 3 ended it else 0, then of each action: its entries, the takes of its
--       bundles, and if nothing of it was taken, since its first bundle has more firings
--       than are wanted, {that bundle as it waits}, else {}}
-- O(n).
local call, match = redis.call, string.match
call('HSETNX', KEYS[1], ARGV[1], '0')
local left, taken, reply = tonumber(ARGV[3]), 0, {0, 0}
for a = 1, (#KEYS - 1) / 4 do
  local queue, held, bundled, bundles = unpack(KEYS, 4 * a - 2, 4 * a + 1)
  local want = tonumber(ARGV[3 + a])
  call('HLEN', held); call('LLEN', bundled); call('HLEN', bundles) -- or fails before anything is taken for it
  local items, takes, large = {}, {}, {}
  if left > 0 then items = call('LPOP', queue, math.min(want, left)) or items end
  if #items == left and want > left then reply[2] = 1 end
  left, want = left - #items, want - #items
  local pairs = {}
  for i = 1, #items do
    taken = taken + 1
    pairs[2 * i - 1], pairs[2 * i] = ARGV[2] .. '-' .. taken, items[i]
  end
  if #items > 0 then call('HSET', held, unpack(pairs)) end
  while want > 0 and left > 0 do
    local first = call('LINDEX', bundled, 0)
    if not first then break end
    local take, n, changes = match(first, '^(.*%+(%d+)) (%d+)$')
    n = tonumber(n) or want + 1 -- what is none is left to spread.lua
    if n > want then
      if #items + #takes == 0 then large[1] = first end
      break
    elseif n > left then
      reply[2] = 1
      break
    end
    call('LPOP', bundled)
    call('HSET', bundles, take, changes, take .. ':done', '')
    call('HINCRBY', bundles, '#', n)
    takes[#takes + 1] = take
    left, want = left - n, want - n
  end
  reply[3 * a], reply[3 * a + 1], reply[3 * a + 2] = items, takes, large
end
return reply
