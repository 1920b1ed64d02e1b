#!lua flags=allow-oom
-- Queues dead letters again, from attempt 1, belonging to no plan any more.
-- KEYS  1 dead  2 backlog  3 actions  then 2 a letter: firings:<action>, firing:<id>
-- ARGV  1 channel  2 event  then 2 a letter: its id, its action
-- Returns  {0, how many}. O(n).
local n = 0
for i = 3, #ARGV, 2 do
  local id, action = ARGV[i], ARGV[i + 1]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then
    local fields = {}
    for j = 1, #entry[2], 2 do fields[entry[2][j]] = entry[2][j + 1] end
    local front, size, rest = string.match(fields.entry or '', '^(%x+ (%d+) %-?%d+ %d+) %d+ %d+ %-?%d+ (.*)$')
    if front and fields.plan then
      redis.call('RPUSH', KEYS[i + 1], front .. ' 1 1 -1 ' .. rest) -- first: what it fails on stays
      redis.call('SET', KEYS[i + 2], fields.plan)
      redis.call('XDEL', KEYS[1], id)
      redis.call('HINCRBY', KEYS[2], action, 1)
      redis.call('HINCRBY', KEYS[2], action .. ':bytes', size)
      redis.call('HINCRBY', KEYS[2], ':total', 1)
      redis.call('SADD', KEYS[3], action)
      n = n + 1
    end
  end
end
if n > 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return {0, n}
