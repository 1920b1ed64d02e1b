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
  local lines, kept = call('RPUSH', KEYS[4], n .. ':' .. #ARGV[6] .. ':' .. now), call('HINCRBY', KEYS[2], ':history', n)
  local bytes, drop, fewer, less, most = call('HINCRBY', KEYS[2], ':history:bytes', #ARGV[6]), 0, 0, 0, n + 4
  -- Who deleted one of them by hand: they begin anew. Else it drops as many attempts as
  -- it brings, or more, in bounded work.
  local anew = lines ~= call('XLEN', KEYS[3])
  if anew then kept, bytes, drop = n, #ARGV[6], lines - 1 end
  if kept > 1.1 * ARGV[3] or bytes > 1.1 * ARGV[4] then most = 1000 end
  while drop < most do
    local some, b, at = string.match(call('LINDEX', KEYS[4], drop) or '', '^(%d+):(%d+):(%d+)$')
    if not some or kept - fewer <= tonumber(ARGV[3]) and bytes - less <= tonumber(ARGV[4]) and tonumber(at) > now - ARGV[5] then break end
    drop, fewer, less = drop + 1, fewer + some, less + b
  end
  if anew or drop > 0 then
    call('LTRIM', KEYS[4], drop, -1)
    call('XTRIM', KEYS[3], 'MAXLEN', lines - drop)
    call('HSET', KEYS[2], ':history', kept - fewer, ':history:bytes', bytes - less)
  end
end
return {0}
