-- Finds tasks that asynq counts as active though no lease covers them. Asynq writes both in one script, so they have no
-- owner, and asynq's recoverer, which goes through the leases, never sees them.
--
-- KEYS[1] = asynq:{<queue>}:active, a list of task ids, newest first
-- KEYS[2] = asynq:{<queue>}:lease, a sorted set of task ids by expiry
-- ARGV[1] = first index, ARGV[2] = last index, both inclusive and negative: counted from the oldest
-- returns   the ids without a lease
local found = {}
for _, id in ipairs(redis.call("LRANGE", KEYS[1], ARGV[1], ARGV[2])) do
	if not redis.call("ZSCORE", KEYS[2], id) then
		found[#found + 1] = id
	end
end
return found
