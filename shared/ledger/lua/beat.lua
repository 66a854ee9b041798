-- Renews claims. A claim that was judged stale but not yet given to another is renewed as well.
--   KEYS b, w   ARGV (field, epoch, objects, bytes, in hand (JSON array), alone 0/1), …
--   returns for each: 'ok', 'cancelled' (finish quickly), or 'lost'
local out, at = {}, now()
for i = 1, #ARGV, 6 do
  local raw = redis.call('HGET', KEYS[2], ARGV[i])
  local e = raw and cjson.decode(raw)
  if not e or e.s ~= 'c' or e.e ~= ARGV[i + 1] then
    out[#out + 1] = 'lost'
  else
    local p = ARGV[i + 2] .. ':' .. ARGV[i + 3]
    if p ~= e.p then e.p, e.pt = p, at end
    e.t, e.h, e.l = at, ARGV[i + 4], tonumber(ARGV[i + 5])
    put(KEYS[2], ARGV[i], e)
    out[#out + 1] = stopping(KEYS[1], step_of(ARGV[i])) and 'cancelled' or 'ok'
  end
end
return out
