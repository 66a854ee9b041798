-- Notes that Redis answers now, and tells for how long it has done so without a gap. A clock that was set back is a gap.
--   KEYS steady: hash of since and last, ms   ARGV the longest time between two calls that is no gap, ms
--   returns {now, ms since the last gap}
local at, h = now(), redis.call('HMGET', KEYS[1], 'since', 'last')
local since, last = tonumber(h[1] or at), tonumber(h[2] or at)
if at < last or at - last > tonumber(ARGV[1]) then since = at end
redis.call('HSET', KEYS[1], 'since', string.format('%d', since), 'last', string.format('%d', at))
return {at, at - since}
