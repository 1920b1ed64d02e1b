#!lua flags=no-writes
-- Reads plans until they are enough bytes.
-- KEYS  1… plan:<key>
-- ARGV  1 bound of bytes, passed by one plan at most
-- Returns  {0, plan or false, …}: of the first keys; at least of one. O(n).
local reply, size, bound = {0}, 0, tonumber(ARGV[1])
for i = 1, #KEYS do
  local v = redis.pcall('GET', KEYS[i])
  if type(v) == 'table' then v = false end -- of another type
  reply[i + 1] = v
  if v then size = size + #v end
  if size >= bound then break end
end
return reply
