#!lua flags=allow-oom
-- Ends deliveries of one action that succeeded, if the worker holds them all: the
-- way that nearly all firings go. Anything else is for finish.lua.
-- KEYS  1 held:<action>:<worker>  2 backlog  3 history  4 history:sizes
--       5 bundles:<action>:<worker>  6 garbage  7 attempts:<id>  then firing:<id> of each
--       that is held by itself, then bundle:<take> of each bundle, then plan:<key> of
--       those whose plan goes on
-- ARGV  1 action  2 bytes of the plans  3, 4, 5 history kept: attempts, bytes, ms
--       6 bytes of the attempts, which were stored before, for a minute, 0: none
--       are kept  7 how many are held by themselves  8 how many bundles others are of
--       9 how many those are  10 id of the attempts  then receipts of the former, then of
--       each bundle its take and which of it, a byte each, then the revisions of those plans
-- Returns  {0}; {6} if one of them is not held, or the attempts are not there: then
--       nothing was done. O(n).
local call, h, bundles, size = redis.call, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[6])
local n = h + ARGV[9]
local held = h > 0 and call('HMGET', KEYS[1], unpack(ARGV, 11, 10 + h)) or {}
for i = 1, h do if not held[i] then return {6} end end
local over, state, finished = {}, {}, {unpack(KEYS, 8, 7 + h)}
for i = 1, bundles do
  local take, which = ARGV[9 + h + 2 * i], ARGV[10 + h + 2 * i]
  local done = call('HGET', KEYS[5], take .. ':done')
  if not done then return {6} end
  if done ~= '' then
    for j = 1, #which do if string.find(done, string.sub(which, j, j), 1, true) then return {6} end end
    which = done .. which
  end
  if #which >= tonumber(string.match(take, '%d+$')) then
    over[#over + 1], over[#over + 2] = take, take .. ':done'
    finished[#finished + 1] = KEYS[7 + h + i]
  else state[#state + 1], state[#state + 2] = take .. ':done', which end
end
if size > 0 and call('PEXPIRE', KEYS[7], ARGV[5]) == 0 then return {6} end
if h > 0 then call('HDEL', KEYS[1], unpack(ARGV, 11, 10 + h)) end
if #finished > 0 then call('UNLINK', unpack(finished)) end
if #state > 0 then call('HSET', KEYS[5], unpack(state)) end
if #over > 0 then call('HDEL', KEYS[5], unpack(over)) end
if bundles > 0 and call('HINCRBY', KEYS[5], '#', -ARGV[9]) <= 0 and call('HLEN', KEYS[5]) == 1 then call('DEL', KEYS[5]) end
for i = 8 + h + bundles, #KEYS do
  local v = redis.pcall('GETRANGE', KEYS[i], '0', '120') -- see codec.go
  if type(v) == 'string' and string.find(v, ARGV[3 + bundles + i], 14, true) == 14 and string.find(v, '"current_count":', 56, true) == 56 and
    string.find(v, '1 ', 119, true) ~= 119 then call('SETRANGE', KEYS[i], '118', '1 ') end
end
call('HINCRBY', KEYS[2], ARGV[1], -n)
call('HINCRBY', KEYS[2], ':total', -n)
call('HINCRBY', KEYS[2], ARGV[1] .. ':bytes', -ARGV[2])
if size > 0 then
  local t = call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  call('XADD', KEYS[3], '*', 'in', ARGV[10])
  local lines, kept = call('RPUSH', KEYS[4], n .. ':' .. size .. ':' .. now .. ':' .. ARGV[10]), call('HINCRBY', KEYS[2], ':history', n)
  local bytes, drop, fewer, less, most = call('HINCRBY', KEYS[2], ':history:bytes', size), 0, 0, 0, n + 4
  -- Who deleted one of them by hand: they begin anew. Else it drops as many attempts as
  -- it brings, or more, in bounded work.
  local anew = lines ~= call('XLEN', KEYS[3])
  if anew then kept, bytes, drop = n, size, lines - 1 end
  if kept > 1.1 * ARGV[3] or bytes > 1.1 * ARGV[4] then most = 1000 end
  while drop < most do
    local some, b, at, id = string.match(call('LINDEX', KEYS[4], drop) or '', '^(%d+):(%d+):(%d+):?(.*)$')
    if not some or kept - fewer <= tonumber(ARGV[3]) and bytes - less <= tonumber(ARGV[4]) and tonumber(at) > now - ARGV[5] then break end
    if id ~= '' then call('RPUSH', KEYS[6], 'attempts:' .. id) end
    drop, fewer, less = drop + 1, fewer + some, less + b
  end
  if anew or drop > 0 then
    call('LTRIM', KEYS[4], drop, -1)
    call('XTRIM', KEYS[3], 'MAXLEN', lines - drop)
    call('HSET', KEYS[2], ':history', kept - fewer, ':history:bytes', bytes - less)
  end
end
return {0}
