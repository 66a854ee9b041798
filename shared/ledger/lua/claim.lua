-- Gives the right to work on a segment: a fresh epoch, or why not.
--   KEYS b, w, r, settled   ARGV step, generation, segment, attempt, worker
--   returns {'ok', epoch, suspects (JSON), cancelled, failures} or {'stale', why}
local field = ARGV[1] .. '/' .. ARGV[3]
local h = redis.call('HMGET', KEYS[1], 'state', 'generation', 'paused', 'epoch')
if not h[1] then return {'stale', 'the batch is not in hand'} end
if h[2] ~= ARGV[2] then return {'stale', 'another generation'} end
if not at_work(KEYS[1], ARGV[1]) then return {'stale', 'the batch is ' .. h[1]} end
if redis.call('GETBIT', KEYS[4], ARGV[3]) == 1 then return {'stale', 'settled'} end
local raw = redis.call('HGET', KEYS[2], field)
if not raw then return {'stale', 'not dispatched'} end
local e = cjson.decode(raw)
if e.s ~= 'q' or e.a ~= tonumber(ARGV[4]) then return {'stale', 'attempt ' .. e.a .. ' is in state ' .. e.s} end
if h[3] == '1' then
  to_redo(KEYS[1], KEYS[2], KEYS[3], field, e)
  return {'stale', 'paused'}
end
-- Redis TIME in microseconds, so that epochs grow even when Redis forgot the last one.
local t = redis.call('TIME')
local epoch = math.max(tonumber(h[4] or '0') + 1, t[1] * 1000000 + t[2])
e.s, e.e, e.w = 'c', string.format('%.0f', epoch), ARGV[5]
e.t, e.pt, e.p, e.h, e.l = now(), now(), '0:0', nil, nil
redis.call('HSET', KEYS[1], 'epoch', e.e)
put(KEYS[2], field, e)
return {'ok', e.e, e.x and cjson.encode(e.x) or '{}', stopping(KEYS[1], ARGV[1]) and '1' or '0', tostring(e.f or 0)}
