#!lua flags=allow-oom
-- Hands queued firings to a worker: those that wait alone and those in bundles, first
-- of which are older.
-- KEYS  1 workers, then 4 an action: firings:<action>, held:<action>:<worker>,
--       bundles:<action>, bundles:<action>:<worker>
-- ARGV  1 worker  2 this take, unique: receipts are <take>-<n>, n from 1 in the
--       order of the answer  3 how many at most  then for each action: how many
-- Returns  {0, 1 if there may be more for the slots that are left else 0, then of each
--       action: entries, the takes of its bundles, {its next bundle as it waits, if
--       that has more firings than are wanted}}
-- O(n).
local call, match = redis.call, string.match
call('HSETNX', KEYS[1], ARGV[1], '0')
local most = tonumber(ARGV[3])
local left, taken, reply = most, 0, {0, 0}
for a = 1, (#KEYS - 1) / 4 do
  local queue, held, bundled, bundles = unpack(KEYS, 4 * a - 2, 4 * a + 1)
  local want, items, takes, large = tonumber(ARGV[3 + a]), {}, {}, {}
  call('HLEN', held); call('HLEN', bundles) -- or fails before anything is taken for it
  local first = call('LINDEX', bundled, 0)
  local due = first and tonumber(match(first, ' (%-?%d+)$') or 0)
  local function alone()
    if left == 0 or want == 0 then return end
    items = call('LPOP', queue, math.min(want, left)) or items
    local pairs = {}
    for i = 1, #items do
      taken = taken + 1
      pairs[2 * i - 1], pairs[2 * i] = ARGV[2] .. '-' .. taken, items[i]
    end
    if #items > 0 then call('HSET', held, unpack(pairs)) end
    left, want = left - #items, want - #items
  end
  local older = first and call('LINDEX', queue, 0)
  local after = older and due <= tonumber(match(older, '^%x+ %d+ (%-?%d+)') or 0)
  if not after then alone() end
  while first and want > 0 and left > 0 do
    local take, n, changes = match(first, '^(.*%+(%d+)) (%d+) %-?%d+$')
    n = tonumber(n) or most + 1 -- what is none is left to spread.lua
    if n > want or n > left and left == most then
      large[1] = first
      break
    elseif n > left then break end
    call('LPOP', bundled)
    call('HSET', bundles, take, changes, take .. ':done', '')
    call('HINCRBY', bundles, '#', n)
    takes[#takes + 1] = take
    left, want = left - n, want - n
    first = call('LINDEX', bundled, 0)
  end
  if after then alone() end
  if want > 0 and #items + #takes > 0 and (first or left == 0) then reply[2] = 1 end
  reply[3 * a], reply[3 * a + 1], reply[3 * a + 2] = items, takes, large
end
return reply
