-- Shared by every script. All keys of a batch have the hash tag {<id>}, so they live in one Redis Cluster slot.
--   b  hash: what the batch is and how far each step is
--   w  hash: the dispatch window, "<step>/<segment>" -> entry (JSON):
--        a attempt   s state: q enqueued, c claimed, r to be dispatched again   e epoch (text: 16 digits; "0" never claimed)
--        w worker    t time of the last sign of life, ms   p progress   pt time of the last progress, ms
--        f executions that ended with an error   n not to be dispatched again before, ms
--        h indices of the objects in hand   l 1 if they are handled alone   x suspects: index -> times it killed alone
--   r  list: fields of w whose state is r
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function step_of(field) return string.match(field, '^[^/]+') end

local function put(w, field, e) redis.call('HSET', w, field, cjson.encode(e)) end

local function busy(b, field, n) redis.call('HINCRBY', b, step_of(field) .. '.busy', n) end

local function to_redo(b, w, r, field, e)
  if e.s ~= 'r' then
    busy(b, field, -1)
    redis.call('RPUSH', r, field)
  end
  e.s = 'r'
  put(w, field, e)
end

local function drop(b, w, r, field)
  local raw = redis.call('HGET', w, field)
  if not raw then return end
  if cjson.decode(raw).s == 'r' then
    redis.call('LREM', r, 0, field)
  else
    busy(b, field, -1)
  end
  redis.call('HDEL', w, field)
end

-- over: 1 if the step at work has ended. A cancelled batch waits only for what is in hand.
local function over(b, w)
  local h = redis.call('HMGET', b, 'step', 'cancelled')
  local step = h[1]
  if not step or step == '' then return 0 end
  if h[2] == '1' and step ~= 'finish' then
    return redis.call('HLEN', w) == 0 and 1 or 0
  end
  local t = redis.call('HMGET', b, step .. '.total', step .. '.settled')
  if t[1] and tonumber(t[1]) >= 0 and tonumber(t[2] or '0') >= tonumber(t[1]) then return 1 end
  return 0
end

-- stopping: whether work on a step is to end because the batch is cancelled. A cancelled batch is finished all the same.
local function stopping(b, step)
  return step ~= 'finish' and redis.call('HGET', b, 'cancelled') == '1'
end

-- at_work: whether segments of the step may be worked on now.
local function at_work(b, step)
  local h = redis.call('HMGET', b, 'step', 'state')
  return h[1] == step or (step == 'list' and h[2] == 'inspecting')
end
