#!lua flags=allow-oom
-- Counts unfinished firings anew where nothing tells otherwise: who deletes a queue
-- by hand leaves them counted.
-- KEYS  1 backlog  2 retries  3 workers  4 actions  then firings:<action> and
--       bundles:<action> of each action, then held:<action>:<worker> and
--       bundles:<action>:<worker>: of each action those of all workers
-- ARGV  1 number of actions  then their names, then the workers
-- Returns  {0, 1} if what was counted was wrong, {0, 0} if not, or if there are
--       others, or more than 1,000 retries. O(number of keys, and of bundles that wait).
local m = tonumber(ARGV[1])
local index, known, found, total = {}, {}, {}, 0
for a = 1, m do index[ARGV[1 + a]] = a end
for w = 2 + m, #ARGV do known[ARGV[w]] = true end
for _, name in ipairs(redis.call('SMEMBERS', KEYS[4])) do if not index[name] then return {0, 0} end end
for _, name in ipairs(redis.call('HKEYS', KEYS[3])) do if not known[name] then return {0, 0} end end
if redis.call('ZCARD', KEYS[2]) > 1000 then return {0, 0} end
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local name = string.match(member, '^.[^:]*:([^:]*):')
  if not name or not index[name] then return {0, 0} end
  found[name] = (found[name] or 0) + 1
end
local workers, wrong = #ARGV - 1 - m, 0
for a = 1, m do
  local name = ARGV[1 + a]
  local n = (found[name] or 0) + redis.call('LLEN', KEYS[3 + 2 * a])
  for _, bundle in ipairs(redis.call('LRANGE', KEYS[4 + 2 * a], 0, -1)) do n = n + (string.match(bundle, '%+(%d+) ') or 0) end
  for w = 1, workers do
    local k = 3 + 2 * m + 2 * ((a - 1) * workers + w)
    n = n + redis.call('HLEN', KEYS[k]) + (redis.call('HGET', KEYS[k + 1], '#') or 0)
  end
  found[name], total = n, total + n
end
local set = {}
for name, n in pairs(found) do
  local was, bytes = unpack(redis.call('HMGET', KEYS[1], name, name .. ':bytes'))
  if tonumber(was or 0) ~= n then set[#set + 1] = name; set[#set + 1] = n end
  if n == 0 and tonumber(bytes or 0) ~= 0 then set[#set + 1] = name .. ':bytes'; set[#set + 1] = 0 end
end
if tonumber(redis.call('HGET', KEYS[1], ':total') or 0) ~= total then set[#set + 1] = ':total'; set[#set + 1] = total end
if #set == 0 then return {0, 0} end
redis.call('HSET', KEYS[1], unpack(set))
return {0, 1}
