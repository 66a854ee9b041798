-- Takes or renews a lock.
--   KEYS lock   ARGV owner, ms
--   returns 1 if the owner holds it now
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
