#!lua flags=allow-oom
-- Makes of a bundle what claim.lua would have made: each of its unfinished firings gets
-- an entry of its own, in the hands of the same worker.
-- KEYS  1 bundles:<action>:<worker>  2 held:<action>:<worker>  3 bundle:<take>
--       4 quarantine  then firing:<id> of each of its firings
-- ARGV  1 the take  2 '' or, if what it holds cannot be read, 'bad'
-- Returns  {0, 1}; {0, 0} if there is no such bundle; {0, 2} if what it held is lost: it
--       is not there, or cannot be read and was put into quarantine; {0, 3} if it is
--       another than was read: nothing was done. O(n).
local call, sub = redis.call, string.sub
local changes, done = unpack(call('HMGET', KEYS[1], ARGV[1], ARGV[1] .. ':done'))
if not changes or not done then return {0, 0} end
local bundle, total = redis.pcall('GET', KEYS[3]), tonumber(string.match(ARGV[1], '%d+$'))
if bundle and ARGV[2] == 'bad' then
  call('HSET', KEYS[4], 'bundle ' .. ARGV[1], 'it cannot be read\n' .. call('DUMP', KEYS[3]))
  bundle = false
elseif bundle and (type(bundle) ~= 'string' or #KEYS - 4 ~= total) then return {0, 3} end
local held, plans, at = {}, {}, 1
for i = 1, bundle and total or 0 do -- see bundle.go
  local head, tail, plan, from = string.match(bundle, '^(%d+) (%d+) (%d+)\n()', at)
  local mid, stop = from + head, from + head + tail
  at = stop + plan
  if not string.find(done, string.char(32 + i), 1, true) then
    held[#held + 1] = ARGV[1] .. '-' .. i
    held[#held + 1] = sub(bundle, from, mid - 1) .. changes .. sub(bundle, mid, stop - 1)
    plans[#plans + 1], plans[#plans + 2] = KEYS[4 + i], sub(bundle, stop, at - 1)
  end
end
if #held > 0 then
  call('HSET', KEYS[2], unpack(held)) -- first: what it fails on stays
  call('MSET', unpack(plans))
end
call('HDEL', KEYS[1], ARGV[1], ARGV[1] .. ':done')
call('UNLINK', KEYS[3])
if call('HINCRBY', KEYS[1], '#', #done - total) <= 0 and call('HLEN', KEYS[1]) == 1 then call('DEL', KEYS[1]) end
return {0, bundle and 1 or 2}
