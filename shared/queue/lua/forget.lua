-- Removes active tasks that still have no lease.
--
-- KEYS[1] = asynq:{<queue>}:active, a list of task ids
-- KEYS[2] = asynq:{<queue>}:lease, a sorted set of task ids by expiry
-- ARGV[1] = asynq:{<queue>}:t:, the prefix of the tasks' hashes
-- ARGV[2…] = ids
-- returns   the number removed
local removed = 0
for i = 2, #ARGV do
	if not redis.call("ZSCORE", KEYS[2], ARGV[i]) and redis.call("LREM", KEYS[1], 0, ARGV[i]) > 0 then
		redis.call("DEL", ARGV[1] .. ARGV[i])
		removed = removed + 1
	end
end
return removed
