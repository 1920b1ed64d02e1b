#!lua flags=allow-oom
-- Forgets the changes of plans once no firing is unfinished: nobody asks for them.
-- KEYS  1 backlog  2 changed  3 changed:old
-- Returns  {0}. O(1), and O(changes) in the background.
if tonumber(redis.call('HGET', KEYS[1], ':total') or 0) <= 0 then redis.call('UNLINK', KEYS[2], KEYS[3]) end
return {0}
