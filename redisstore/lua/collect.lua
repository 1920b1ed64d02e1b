#!lua flags=allow-oom
-- Deletes what cancelled retries carried, and attempts that are kept no longer.
-- KEYS  1 garbage  then what its first elements stand for: firing:<id> of an id, or
--       attempts:<id>
-- ARGV  those elements
-- Returns  {0}. O(n).
for i = 1, #ARGV do
  if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[i] then break end
  redis.call('LPOP', KEYS[1])
  redis.call('UNLINK', KEYS[i + 1])
end
return {0}
