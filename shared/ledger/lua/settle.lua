-- Counts a segment's part, once.
--   KEYS b, w, r, settled   ARGV step, segment, done, skipped, failed, bytes
--   returns {1 if it was counted now, over}
local step = ARGV[1]
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0} end
drop(KEYS[1], KEYS[2], KEYS[3], step .. '/' .. ARGV[2])
if redis.call('SETBIT', KEYS[4], ARGV[2], 1) == 1 then return {0, over(KEYS[1], KEYS[2])} end
-- A batch that is over leaves nothing behind, even if the first to settle a step comes late.
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[4], left) end
redis.call('HINCRBY', KEYS[1], step .. '.settled', 1)
redis.call('HINCRBY', KEYS[1], step .. '.done', ARGV[3])
redis.call('HINCRBY', KEYS[1], step .. '.skipped', ARGV[4])
redis.call('HINCRBY', KEYS[1], step .. '.failed', ARGV[5])
redis.call('HINCRBY', KEYS[1], step .. '.bytes', ARGV[6])
return {1, over(KEYS[1], KEYS[2])}
