-- Gives a claimed segment back, to be dispatched again; no death is counted. After a failure it waits for 1, 2, 4, 8, then
-- 16 s, so that a fault of seconds does not use up all attempts.
--   KEYS b, w, r   ARGV field, epoch, 1 if the execution failed
--   returns 1 if the claim was held
local raw = redis.call('HGET', KEYS[2], ARGV[1])
if not raw then return 0 end
local e = cjson.decode(raw)
if e.s ~= 'c' or e.e ~= ARGV[2] then return 0 end
if ARGV[3] == '1' then
  e.f = (e.f or 0) + 1
  e.n = now() + 1000 * 2 ^ math.min(e.f - 1, 4)
end
to_redo(KEYS[1], KEYS[2], KEYS[3], ARGV[1], e)
return 1
