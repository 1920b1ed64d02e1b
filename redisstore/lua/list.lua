#!lua flags=no-writes
-- Reads a page of the keys of a shard at one moment: see pack.go.
-- KEYS  1 index  2 packed
-- ARGV  1 the least key  2 the greatest  3 limit  4 where runs end that begin before the
--       least key  5 where others begin  6 how many of those
-- Returns  {0, keys, the last run that begins before, runs}: lists. O(log plans + limit).
return {0,
  redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[3]),
  redis.call('ZRANGE', KEYS[2], ARGV[4], '-', 'BYLEX', 'REV', 'LIMIT', 0, 1),
  redis.call('ZRANGE', KEYS[2], ARGV[5], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[6])}
