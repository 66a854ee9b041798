-- Judges the window: claims without a sign of life or without progress are to be dispatched again, and the objects that were
-- in hand become suspects; those that were handled alone have killed once more. Enqueued segments that nobody claimed
-- for long are only named, since only the queue knows whether their task still waits.
-- Nothing is judged when Redis was silent since the judge last heard of it: then signs of life were held up as this call was.
--   KEYS b, w, r   ARGV stale ms, progress ms, queued ms, Redis's time when the judge last heard of it (ms), how old that may be
--   returns {kind, field, attempt, worker, …} with kind 'died', 'stuck' or 'queued', or {'silent'}
local out, at = {}, now()
if at - tonumber(ARGV[4]) > tonumber(ARGV[5]) then return {'silent'} end
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local field, e = all[i], cjson.decode(all[i + 1])
  local kind
  if e.s == 'c' and at - e.t > tonumber(ARGV[1]) then kind = 'died'
  elseif e.s == 'c' and at - e.pt > tonumber(ARGV[2]) then kind = 'stuck'
  elseif e.s == 'q' and at - e.t > tonumber(ARGV[3]) then kind = 'queued' end
  if kind then
    for _, v in ipairs({kind, field, string.format('%d', e.a), e.w or ''}) do out[#out + 1] = v end
    if kind ~= 'queued' then
      for index in string.gmatch(e.h or '', '%d+') do
        e.x = e.x or {} -- never stored empty: miniredis would write it as an array
        e.x[index] = (e.x[index] or 0) + (e.l or 0)
      end
      to_redo(KEYS[1], KEYS[2], KEYS[3], field, e)
    end
  end
end
return out
