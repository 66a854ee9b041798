-- Answers what reconcile named as 'queued': waiting (its task is still there) or gone (dispatch it again).
--   KEYS b, w, r   ARGV field, attempt, 'waiting' or 'gone'
local raw = redis.call('HGET', KEYS[2], ARGV[1])
if not raw then return 0 end
local e = cjson.decode(raw)
if e.s ~= 'q' or e.a ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == 'gone' then
  to_redo(KEYS[1], KEYS[2], KEYS[3], ARGV[1], e)
else
  e.t = now()
  put(KEYS[2], ARGV[1], e)
end
return 1
