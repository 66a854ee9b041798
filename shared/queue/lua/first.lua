-- Puts a task that waits in a queue at its head, as asynq does with one that it pushes back.
--
-- KEYS[1] = asynq:{<queue>}:pending, a list of task ids, the next to be taken last
-- ARGV[1] = id
-- returns   1 if it waits, 0 if it was taken
if redis.call("LREM", KEYS[1], 1, ARGV[1]) == 0 then
	return 0
end
redis.call("RPUSH", KEYS[1], ARGV[1])
return 1
