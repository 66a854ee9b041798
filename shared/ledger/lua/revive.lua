-- Takes a segment in hand again that, as the ledger says, was worked on and has no part.
--   KEYS b, w, r, settled   ARGV step, segment
local field = ARGV[1] .. '/' .. ARGV[2]
if not at_work(KEYS[1], ARGV[1]) or redis.call('GETBIT', KEYS[4], ARGV[2]) == 1 then return 0 end
if redis.call('HEXISTS', KEYS[2], field) == 1 then return 0 end
put(KEYS[2], field, {a = 0, s = 'r', e = '1'})
redis.call('RPUSH', KEYS[3], field)
return 1
