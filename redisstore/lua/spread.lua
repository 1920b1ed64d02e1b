#!lua flags=allow-oom
-- Makes of the first bundle that waits for a worker what claim.lua would have made: each
-- of its firings stands in the queue.
-- KEYS  1 bundles:<action>  2 firings:<action>  3 bundle:<take>  4 quarantine  then
--       firing:<id> of each of its firings
-- ARGV  1 the bundle as it waits  2 '' or, if what it holds cannot be read, 'bad'
-- Returns  as unbundle.lua; {0, 0} if another is the first. O(n).
local call, sub, match = redis.call, string.sub, string.match
if call('LINDEX', KEYS[1], 0) ~= ARGV[1] then return {0, 0} end
local bundle, total, changes = redis.pcall('GET', KEYS[3]), match(ARGV[1], '^.*%+(%d+) (%d+) ')
if bundle and ARGV[2] == 'bad' then
  call('HSET', KEYS[4], 'bundle ' .. match(ARGV[1], '^[^ ]*'), 'it cannot be read\n' .. call('DUMP', KEYS[3]))
  bundle = false
elseif bundle and (type(bundle) ~= 'string' or not total or #KEYS - 4 ~= tonumber(total)) then return {0, 3} end
local entries, plans, at = {}, {}, 1
for i = 1, bundle and total or 0 do -- see bundle.go
  local head, tail, plan, from = match(bundle, '^(%d+) (%d+) (%d+)\n()', at)
  local mid, stop = from + head, from + head + tail
  at = stop + plan
  entries[i] = sub(bundle, from, mid - 1) .. changes .. sub(bundle, mid, stop - 1)
  plans[2 * i - 1], plans[2 * i] = KEYS[4 + i], sub(bundle, stop, at - 1)
end
if #entries > 0 then
  call('RPUSH', KEYS[2], unpack(entries)) -- first: what it fails on stays
  call('MSET', unpack(plans))
end
call('LPOP', KEYS[1])
call('UNLINK', KEYS[3])
return {0, bundle and 1 or 2}
