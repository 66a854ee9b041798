-- Brings the live state up to an event, unless it is there or past it.
--   KEYS b, w, r   ARGV event, state, step, paused, cancelled, priority, reason
--   returns {1 if it changed, 0 if not, -1 if Redis does not know the batch; over}
local function forgive(w)
  -- Who resumes or cancels a batch has seen to what failed: its segments start anew, at once.
  local all = redis.call('HGETALL', w)
  for i = 1, #all, 2 do
    local e = cjson.decode(all[i + 1])
    if e.f then
      e.f, e.n = nil, nil
      put(w, all[i], e)
    end
  end
end

local had = tonumber(redis.call('HGET', KEYS[1], 'event') or '-1')
if had < 0 then return {-1, 0} end
if tonumber(ARGV[1]) > had then
  local was = redis.call('HMGET', KEYS[1], 'paused', 'cancelled')
  if was[1] == '1' and ARGV[4] == '0' or was[2] == '0' and ARGV[5] == '1' then forgive(KEYS[2]) end
  if redis.call('HGET', KEYS[1], 'state') ~= ARGV[2] then
    redis.call('DEL', KEYS[2], KEYS[3])
    for _, step in ipairs({'list', 'inspect', 'plan', 'rename', 'finish'}) do
      redis.call('HDEL', KEYS[1], step .. '.busy')
    end
  end
  redis.call('HSET', KEYS[1], 'event', ARGV[1], 'state', ARGV[2], 'step', ARGV[3], 'paused', ARGV[4],
    'cancelled', ARGV[5], 'priority', ARGV[6], 'reason', ARGV[7])
  if ARGV[5] == '1' then
    -- What nobody ever claimed has changed nothing: drop it. What was claimed must be looked at again.
    local all = redis.call('HGETALL', KEYS[2])
    for i = 1, #all, 2 do
      if cjson.decode(all[i + 1]).e == '0' then drop(KEYS[1], KEYS[2], KEYS[3], all[i]) end
    end
  end
  return {1, over(KEYS[1], KEYS[2])}
end
return {0, over(KEYS[1], KEYS[2])}
