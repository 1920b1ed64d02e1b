#!lua flags=allow-oom
-- Ends deliveries of one action that succeeded, if the worker holds them all: the
-- way that nearly all firings go. Anything else is for finish.lua.
-- KEYS  1 held:<action>:<worker>  2 backlog  3 history  4 history:sizes  then
--       firing:<id> of each, then plan:<key> of those whose plan goes on
-- ARGV  1 action  2 bytes of the plans  3, 4, 5 history kept: attempts, bytes, ms
--       6 attempts, a line each, '' : none are kept  7 how many deliveries  then
--       their receipts, then the revisions of those plans
-- Returns  {0}; {6} if one of them is not held: then nothing was done. O(n).
local call, n = redis.call, tonumber(ARGV[7])
local held = call('HMGET', KEYS[1], unpack(ARGV, 8, 7 + n))
for i = 1, n do if not held[i] then return {6} end end
call('HDEL', KEYS[1], unpack(ARGV, 8, 7 + n))
call('UNLINK', unpack(KEYS, 5, 4 + n))
for i = 5 + n, #KEYS do
  local h = redis.pcall('GETRANGE', KEYS[i], '0', '120') -- see codec.go
  if type(h) == 'string' and string.find(h, ARGV[i + 3], 14, true) == 14 and string.find(h, '"current_count":', 56, true) == 56 and
    string.find(h, '1 ', 119, true) ~= 119 then call('SETRANGE', KEYS[i], '118', '1 ') end
end
call('HINCRBY', KEYS[2], ARGV[1], -n)
call('HINCRBY', KEYS[2], ':total', -n)
call('HINCRBY', KEYS[2], ARGV[1] .. ':bytes', -ARGV[2])
if ARGV[6] ~= '' then
  local t = call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  call('XADD', KEYS[3], '*', 'attempts', ARGV[6])
  call('RPUSH', KEYS[4], n .. ':' .. #ARGV[6] .. ':' .. now)
  local attempts, bytes = call('HINCRBY', KEYS[2], ':history', n), call('HINCRBY', KEYS[2], ':history:bytes', #ARGV[6])
  for _ = 1, 4 do
    local oldest, b, at = string.match(call('LINDEX', KEYS[4], 0) or '', '^(%d+):(%d+):(%d+)$')
    if not oldest or attempts <= tonumber(ARGV[3]) and bytes <= tonumber(ARGV[4]) and tonumber(at) > now - ARGV[5] then break end
    call('LPOP', KEYS[4])
    call('XTRIM', KEYS[3], 'MAXLEN', call('XLEN', KEYS[3]) - 1)
    attempts, bytes = call('HINCRBY', KEYS[2], ':history', -oldest), call('HINCRBY', KEYS[2], ':history:bytes', -b)
  end
end
return {0}
