#!lua flags=allow-oom
-- Queues dead letters again, from attempt 1, belonging to no plan any more.
-- KEYS  1 dead  2 backlog  3 actions  then firings:<action> of each
-- ARGV  1 channel  2 event  then 2 a letter: its id, its action
-- Returns  {0, how many}. O(n).
local head = '^{"due":(%-?%d+),"missed":(%d+),"attempt":(%d+),"delivery":(%d+),"changes":(%-?%d+),()'
local n = 0
for i = 3, #ARGV, 2 do
  local id, action = ARGV[i], ARGV[i + 1]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then
    local fields = entry[2]
    local f
    for j = 1, #fields, 2 do if fields[j] == 'firing' then f = fields[j + 1] end end
    local due, missed, _, _, _, rest = string.match(f or '', head)
    if due then
      local g = '{"due":' .. due .. ',"missed":' .. missed .. ',"attempt":1,"delivery":1,"changes":-1,' .. string.sub(f, rest)
      redis.call('XDEL', KEYS[1], id)
      redis.call('RPUSH', KEYS[3 + (i - 1) / 2], g)
      redis.call('HINCRBY', KEYS[2], action, 1)
      redis.call('HINCRBY', KEYS[2], action .. ':bytes', #g)
      redis.call('HINCRBY', KEYS[2], ':total', 1)
      redis.call('SADD', KEYS[3], action)
      n = n + 1
    end
  end
end
if n > 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return {0, n}
