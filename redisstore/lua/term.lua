#!lua flags=allow-oom
-- Gives the next term of a shard, which who gets it may then bid with (elect.lua).
-- KEYS  1 term
-- Returns  {0, term}. O(1).
return {0, redis.call('INCR', KEYS[1])}
