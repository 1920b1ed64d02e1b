#!lua flags=allow-oom
-- Moves a firing that a worker holds and nobody can decode out of the way.
-- KEYS  1 held:<action>:<worker>  2 backlog  3 quarantine  4 firing:<id>
-- ARGV  1 receipt  2 action  3 name in the quarantine  4 why
-- Returns  {0, 1}, or {0, 0} if it is not held. O(1).
local e = redis.call('HGET', KEYS[1], ARGV[1])
if not e then return {0, 0} end
local plan = redis.pcall('GET', KEYS[4])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4] .. '\n' .. e .. '\n' .. (type(plan) == 'string' and plan or ''))
redis.call('UNLINK', KEYS[4])
redis.call('HINCRBY', KEYS[2], ARGV[2], -1)
redis.call('HINCRBY', KEYS[2], ARGV[2] .. ':bytes', -(string.match(e, '^%d+', 34) or 0))
redis.call('HINCRBY', KEYS[2], ':total', -1)
return {0, 1}
