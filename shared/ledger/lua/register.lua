-- A worker's sign of life.
--   KEYS info, at   ARGV worker, JSON
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now(), ARGV[1])
return 1
