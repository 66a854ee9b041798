-- Says that segment n of a step exists. Segments are made known in order; one already known is ignored.
--   KEYS b   ARGV step, n, objects, bytes, excluded
--   returns the number of known segments
local known = tonumber(redis.call('HGET', KEYS[1], ARGV[1] .. '.known') or '0')
if tonumber(ARGV[2]) ~= known then return known end
redis.call('HSET', KEYS[1], ARGV[1] .. '.known', known + 1)
redis.call('HINCRBY', KEYS[1], 'listed.objects', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'listed.bytes', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'listed.excluded', ARGV[5])
return known + 1
