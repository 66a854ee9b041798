-- Lists the workers and forgets those that were silent for longer than a while.
--   KEYS info, at   ARGV forget ms
--   returns {worker, JSON, silent ms, …}
local at = now()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', at - tonumber(ARGV[1]))) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
local out = {}
local ids = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #ids, 2 do
  out[#out + 1] = ids[i]
  out[#out + 1] = redis.call('HGET', KEYS[1], ids[i]) or '{}'
  out[#out + 1] = string.format('%d', at - tonumber(ids[i + 1]))
end
return out
