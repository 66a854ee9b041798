-- Deletes the oldest tasks of one asynq archive.
--
-- KEYS[1] = asynq:{<queue>}:archived, a sorted set of task ids by time
-- ARGV[1] = asynq:{<queue>}:t:, the prefix of the tasks' hashes
-- ARGV[2] = the most to delete
-- returns   the number deleted
local ids = redis.call("ZRANGE", KEYS[1], 0, tonumber(ARGV[2]) - 1)
for _, id in ipairs(ids) do
	redis.call("DEL", ARGV[1] .. id)
	redis.call("ZREM", KEYS[1], id)
end
return #ids
