#!lua
-- Win a fence, and leave what has still to be fanned out to whoever finishes it. ARGV: epoch, tag, message id 16,
-- digest of the body 32, digest of the deposit 16, body, the deposit, now in seconds, expiry, end of the lease in ms,
-- end of deduplication.
-- Answers 0 lost, 1 fan it out, 2 accepted and done with.
local s = load_state()
if not s then return OTHER_EPOCH end
local record = call('HGET', FENCE, ARGV[2])
save_state(s)
if record then
  if sub(record, 1, 48) ~= ARGV[3] .. ARGV[4] then return 0 end
  if sub(record, 49, 64) ~= ARGV[5] then return 2 end
  local deduplicated = sunpack('>I6', record, 65)
  if tonumber(ARGV[8]) >= deduplicated and not call('HGET', PENDING, ARGV[2]) then return 2 end
  return 1
end
call('HSET', FENCE, ARGV[2], ARGV[3] .. ARGV[4] .. ARGV[5] .. spack('>I6', tonumber(ARGV[11])) .. ARGV[6])
call('ZADD', EXPIRY, ARGV[9], 'f' .. ARGV[2])
call('HSET', PENDING, ARGV[2], ARGV[7])
call('ZADD', LEASE, ARGV[10], ARGV[2])
return 1
