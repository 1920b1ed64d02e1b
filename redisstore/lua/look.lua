#!lua flags=no-writes
-- Reads a plan and its places at one moment.
-- KEYS  1 plan:<key>  2 index  then schedules
-- ARGV  1 key
-- Returns  {0, plan or '', 1 if the index has it else 0, second or '' in each schedule}.
--       O(schedules).
local v = redis.pcall('GET', KEYS[1])
if type(v) == 'table' then v = 'not a string' end
local reply = {0, v or '', redis.call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0}
for i = 3, #KEYS do reply[#reply + 1] = redis.call('ZSCORE', KEYS[i], ARGV[1]) or '' end
return reply
