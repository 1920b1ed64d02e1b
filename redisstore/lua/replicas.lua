#!lua flags=no-writes
-- Tells which replicas are on the list.
-- KEYS  1 replicas
-- Returns  {0, now ms, id, entry, …}: see announce.lua; those not seen for long, too.
--       O(replicas).
local t = redis.call('TIME')
return {0, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), unpack(redis.call('HGETALL', KEYS[1]))}
