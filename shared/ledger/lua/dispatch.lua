-- Hands out segments to be enqueued: all that are to be dispatched again, then new ones until `room` of the step are in the
-- window. Those to be dispatched again ask for no room: they are in the window as it is, and when a worker has died the
-- room has shrunk. One that waits after a failure keeps its place.
--   KEYS b, w, r, settled   ARGV step, room
--   returns {segment, attempt, segment, attempt, …}
local step, room = ARGV[1], tonumber(ARGV[2])
local h = redis.call('HMGET', KEYS[1], 'paused', step .. '.known', step .. '.next', step .. '.busy')
if h[1] == '1' or not at_work(KEYS[1], step) then return {} end
local out, at, taken = {}, now(), tonumber(h[4] or '0')
local waiting = redis.call('LRANGE', KEYS[3], 0, -1)
for _, field in ipairs(waiting) do
  if step_of(field) == step then
    local e = cjson.decode(redis.call('HGET', KEYS[2], field))
    taken = taken + 1
    if (e.n or 0) <= at then
      redis.call('LREM', KEYS[3], 0, field)
      e.a, e.s, e.t, e.n = e.a + 1, 'q', at, nil
      put(KEYS[2], field, e)
      busy(KEYS[1], field, 1)
      out[#out + 1] = tonumber(string.match(field, '%d+$'))
      out[#out + 1] = e.a
    end
  end
end
if stopping(KEYS[1], step) then return out end
local known, nxt, seen = tonumber(h[2] or '0'), tonumber(h[3] or '0'), 0
while taken < room and nxt < known and seen < 10000 do
  if redis.call('GETBIT', KEYS[4], nxt) == 1 then
    -- After recovery a million may have settled. BITPOS begins at a whole byte and finds none where the string ends.
    local clear = redis.call('BITPOS', KEYS[4], 0, math.floor(nxt / 8))
    if clear < 0 then clear = 8 * redis.call('STRLEN', KEYS[4]) end
    nxt = math.max(nxt, clear)
    if nxt >= known then break end
  end
  local field = step .. '/' .. nxt
  if redis.call('GETBIT', KEYS[4], nxt) == 0 and redis.call('HEXISTS', KEYS[2], field) == 0 then
    put(KEYS[2], field, {a = 1, s = 'q', e = '0', t = at})
    busy(KEYS[1], field, 1)
    taken = taken + 1
    out[#out + 1] = nxt
    out[#out + 1] = 1
  end
  nxt, seen = nxt + 1, seen + 1
end
redis.call('HSET', KEYS[1], step .. '.next', nxt)
return out
