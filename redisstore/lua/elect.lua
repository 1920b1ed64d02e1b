#!lua flags=allow-oom
-- Gives a shard's vacant lease to the bidder with the newest term.
-- KEYS  1 leader  2 term
-- ARGV  1 the lease: <term>:<replica>:<random>  2 its term  3 how long it lasts, ms
-- Returns  {0}: given. {1}: it is held. {2}: a newer term was given to somebody, so
--       that with this one terms would go back. O(1).
if redis.call('EXISTS', KEYS[1]) == 1 then return {1} end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return {2} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return {0}
