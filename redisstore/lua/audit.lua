#!lua flags=no-writes
-- Counts unfinished firings where they are, and where they are counted.
-- KEYS  1 backlog  2 retries  then bundles:<action> of each action, then
--       firings:<action>, held:<action>:<worker> and bundles:<action>:<worker> of all
-- ARGV  1 number of actions
-- Returns  {0, counted, found}. O(number of keys, and of bundles that wait).
local found = redis.call('ZCARD', KEYS[2])
for i = 3, 2 + ARGV[1] do
  local bundles = redis.pcall('LRANGE', KEYS[i], 0, -1)
  for _, bundle in ipairs(bundles) do found = found + (string.match(bundle, '%+(%d+) ') or 0) end
end
for i = 3 + ARGV[1], #KEYS do
  local t = redis.call('TYPE', KEYS[i])['ok']
  if t == 'list' then found = found + redis.call('LLEN', KEYS[i]) end
  if t == 'hash' then found = found + (redis.call('HGET', KEYS[i], '#') or redis.call('HLEN', KEYS[i])) end
end
return {0, tonumber(redis.call('HGET', KEYS[1], ':total') or 0), found}
