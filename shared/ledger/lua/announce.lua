-- Makes the live state of a batch, once.
--   KEYS b   ARGV field, value, …
--   returns 1 if it was made, 0 if it was there
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
