#!lua flags=no-writes
-- Reads a plan and its places at one moment.
-- KEYS  1 plan:<key>  2 index  3 packed  4 unpack  then schedules
-- ARGV  1 key  2 where runs end that begin before what follows it
-- Returns  {0, plan or '', 1 if the index has it, 2 if a run has, 3 if a run has that is
--       perhaps to be unpacked, else 0, second or '' in each schedule}. O(schedules).
local v = redis.pcall('GET', KEYS[1])
if type(v) == 'table' then v = 'not a string' end
local place, run = 0, redis.call('ZRANGE', KEYS[3], ARGV[2], '-', 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then place = 1
elseif run and string.find('\n' .. run .. '\n', '\n' .. ARGV[1] .. '\n', 1, true) then
  local waiting = redis.pcall('LLEN', KEYS[4]) -- of another type nobody takes anything out of it
  place = type(waiting) == 'number' and waiting > 0 and 3 or 2
end
local reply = {0, v or '', place}
for i = 5, #KEYS do reply[#reply + 1] = redis.call('ZSCORE', KEYS[i], ARGV[1]) or '' end
return reply
