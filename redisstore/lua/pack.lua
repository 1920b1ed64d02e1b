#!lua flags=allow-oom
-- Moves keys from the index into runs, and takes keys out of runs: see pack.go.
-- KEYS  1 leader  2 index  3 packed  4 unpack  then plan:<key> of the keys that stay
-- ARGV  1 the store's time after which nothing is done any more, ms, 0: none
--       2 lease's value  3 how many elements of unpack are done with  4 how many keys
--       leave the index  5 how many runs there were  then the keys that were to be taken
--       out of runs and stay, since they have a plan and stand nowhere else, the keys that
--       leave the index, the runs that there were, and the ones to be in their place
-- Returns  {1}: fenced. {3}: too late. {0, 1}: done. {0, 0}: nothing was done, something
--       of it is another by now. O(n log index).
local call = redis.call
local t = call('TIME')
if ARGV[1] ~= '0' and t[1] * 1000 + math.floor(t[2] / 1000) > tonumber(ARGV[1]) then return {3} end
if call('GET', KEYS[1]) ~= ARGV[2] then return {1} end
local stay, keys, runs = #KEYS - 4, tonumber(ARGV[4]), tonumber(ARGV[5])
local function missing(set, from, n) -- of members of a set
  local count = 0
  for i, score in ipairs(n > 0 and call('ZMSCORE', set, unpack(ARGV, from, from + n - 1)) or {}) do
    if not score then count = count + 1 end
  end
  return count
end
call('LLEN', KEYS[4]) -- or fails before anything is written
if stay > 0 and (call('EXISTS', unpack(KEYS, 5)) < stay or missing(KEYS[2], 6, stay) < stay) then return {0, 0} end
if missing(KEYS[2], 6 + stay, keys) > 0 or missing(KEYS[3], 6 + stay + keys, runs) > 0 then return {0, 0} end
local new = {}
for a = 6 + stay + keys + runs, #ARGV do new[#new + 1] = '0'; new[#new + 1] = ARGV[a] end
if runs > 0 then call('ZREM', KEYS[3], unpack(ARGV, 6 + stay + keys, 5 + stay + keys + runs)) end
if #new > 0 then call('ZADD', KEYS[3], unpack(new)) end
if keys > 0 then call('ZREM', KEYS[2], unpack(ARGV, 6 + stay, 5 + stay + keys)) end
if ARGV[3] ~= '0' then call('LTRIM', KEYS[4], ARGV[3], -1) end
return {0, 1}
