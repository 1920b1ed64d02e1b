#!lua
-- Stores plans of one action that are all new, as most are: none exists, no retry is
-- pending, nothing lies in quarantine. Anything else is for put.lua.
-- KEYS  1 index  2 retries  3 quarantine  4 actions  5 edits  6 unpack
--       7 schedule:<action>  then plan:<key> of the plans, no plan twice
-- ARGV  1 the store's time after which nothing is stored any more, ms, 0: none
--       2 channel  3 event if the soonest is due within 2 s  4 the soonest due s
--       5 action  then 3 a plan: key, due s, the plan as JSON, then a new value of edits
-- Returns  {0}: stored. {3}: too late. {8}: nothing was done, they are not all new.
-- O(n log plans).
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[1] ~= '0' and now > tonumber(ARGV[1]) then return {3} end
if call('EXISTS', unpack(KEYS, 8)) > 0 or call('EXISTS', KEYS[2], KEYS[3]) > 0 then return {8} end
local n, values, index, places, keys = #KEYS - 7, {}, {}, {}, {}
for i = 1, n do
  local j, a = 2 * i - 1, 3 + 3 * i
  values[j], values[j + 1] = KEYS[7 + i], ARGV[a + 2]
  index[j], index[j + 1] = '0', ARGV[a]
  keys[i] = ARGV[a]
  places[j], places[j + 1] = ARGV[a + 1], ARGV[a]
end
call('MSET', unpack(values))
-- Who stands in the index or the schedule already was a plan that someone deleted by hand:
-- what was read of it is true no longer. If the index does not have it, a run may.
local indexed, scheduled = call('ZADD', KEYS[1], unpack(index)), call('ZADD', KEYS[7], unpack(places))
if indexed < n or scheduled < n then call('SET', KEYS[5], ARGV[#ARGV]) end
if indexed > 0 and scheduled < n then redis.pcall('RPUSH', KEYS[6], unpack(keys)) end
call('SADD', KEYS[4], ARGV[5])
if ARGV[4] * 1000 <= now + 2000 then call('PUBLISH', ARGV[2], ARGV[3]) end
return {0}
