#!lua flags=allow-oom
-- Puts right an entry of a schedule that was found not to fit its plan.
-- KEYS  1 plan:<key>  2 schedule:<action> it stands in  3 index  4 quarantine
--       5 schedule:<action> it should stand in  6 edits  7 unpack
-- ARGV  1 key  2 the plan as it was read, '' if there was none  3 why it cannot be
--       decoded, '' if it can  4 its due second  5 a new value of edits
-- Returns  {0, 1} if the entry was dropped or corrected, {0, 1, why} if the plan was
--       put into quarantine, {0, 0} if it is another by now. O(log schedule).
local key, reply = ARGV[1], {0, 1}
local v = redis.pcall('GET', KEYS[1])
if type(v) == 'table' then
  reply[3] = 'not a string: ' .. redis.call('TYPE', KEYS[1])['ok']
  redis.call('HSET', KEYS[4], key, reply[3] .. '\n' .. redis.call('DUMP', KEYS[1]))
elseif (v or '') ~= ARGV[2] then
  return {0, 0}
elseif v and (ARGV[3] ~= '' or v == '') then
  reply[3] = v == '' and 'it is empty' or ARGV[3]
  redis.call('HSET', KEYS[4], key, reply[3] .. '\n' .. v)
elseif v then
  if KEYS[2] ~= KEYS[5] then redis.call('ZREM', KEYS[2], key) end
  redis.call('ZADD', KEYS[5], ARGV[4], key)
  return {0, 1}
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[6], ARGV[5])
redis.call('ZREM', KEYS[2], key)
if redis.call('ZREM', KEYS[3], key) == 0 then redis.pcall('RPUSH', KEYS[7], key) end
return reply
