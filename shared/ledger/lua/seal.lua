-- Says how many segments a step has.
--   KEYS b, w   ARGV step, total
--   returns over
redis.call('HSET', KEYS[1], ARGV[1] .. '.total', ARGV[2])
if tonumber(redis.call('HGET', KEYS[1], ARGV[1] .. '.known') or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1] .. '.known', ARGV[2])
end
return over(KEYS[1], KEYS[2])
