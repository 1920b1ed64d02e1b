#!lua flags=allow-oom
-- Takes firings of one action from a worker whose heartbeat stands still.
-- KEYS  1 leader  2 workers  3 held:<action>:<worker>  4 firings:<action>  5 backlog
--       6 dead  7 history  8 history:sizes  then 2 a dead letter: plan:<key>,
--       firing:<id>
-- ARGV  1 lease's value  2 worker  3 its counter  4 action  5 channel  6 event
--       7 dead letters kept  8 error of a dead letter  then 3 a firing: receipt, and
--       for a dead letter its key and its attempt as JSON, else '' twice
-- Returns  {1}: fenced. {0, how many were moved}: 0 if the counter has moved. O(n).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end
if (redis.call('HGET', KEYS[2], ARGV[2]) or '0') ~= ARGV[3] then return {0, 0} end
local parts = '^(%x+ %d+ %-?%d+ %d+) (%d+) (%d+) (.*)$'
local moved, ended, back, entries, bytes, letters, journal = {}, {}, {}, 0, 0, 7, {}
for i = 9, #ARGV, 3 do
  local receipt, key = ARGV[i], ARGV[i + 1]
  local e = redis.call('HGET', KEYS[3], receipt)
  local dies = ARGV[i + 2] ~= ''
  if dies then letters = letters + 2 end
  if e and not moved[receipt] then
    moved[receipt], moved[#moved + 1] = true, receipt
    local front, attempt, delivery, rest = string.match(e, parts)
    if dies or not front then
      local plan = dies and redis.pcall('GET', KEYS[letters + 1])
      redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[7], '*', 'key', key, 'error', ARGV[8], 'entry', e, 'plan', type(plan) == 'string' and plan or '')
      entries, bytes = entries - 1, bytes - (string.match(e, '^%d+', 34) or 0)
      if dies then
        journal[#journal + 1] = ARGV[i + 2]
        local h = redis.pcall('GETRANGE', KEYS[letters], 0, 120)
        local was = redis.pcall('GETRANGE', KEYS[letters + 1], 13, 28)
        if type(h) == 'string' and string.sub(h, 14, 29) == was and string.sub(h, 56, 71) == '"current_count":' then
          redis.call('SETRANGE', KEYS[letters], 118, '-1')
        end
        ended[#ended + 1] = KEYS[letters + 1]
      end
    else
      back[#back + 1] = front .. ' ' .. attempt + 1 .. ' ' .. delivery + 1 .. ' ' .. rest
    end
  end
end
if #back > 0 then
  redis.call('LPUSH', KEYS[4], unpack(back))
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
if #moved > 0 then redis.call('HDEL', KEYS[3], unpack(moved)) end -- what fails before stays held
if #ended > 0 then redis.call('UNLINK', unpack(ended)) end
if entries ~= 0 then
  redis.call('HINCRBY', KEYS[5], ARGV[4], entries)
  redis.call('HINCRBY', KEYS[5], ':total', entries)
end
if bytes ~= 0 then redis.call('HINCRBY', KEYS[5], ARGV[4] .. ':bytes', bytes) end
if #journal > 0 then
  local all = table.concat(journal, '\n')
  local t = redis.call('TIME')
  redis.call('XADD', KEYS[7], '*', 'attempts', all)
  redis.call('RPUSH', KEYS[8], #journal .. ':' .. #all .. ':' .. string.format('%.0f', t[1] * 1000))
  redis.call('HINCRBY', KEYS[5], ':history', #journal)
  redis.call('HINCRBY', KEYS[5], ':history:bytes', #all)
end
return {0, #moved}
