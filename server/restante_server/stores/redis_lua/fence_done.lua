#!lua flags=allow-oom
-- A fence's deposit is fanned out. ARGV: epoch, tag.
local s = load_state()
if not s then return OTHER_EPOCH end
call('HDEL', PENDING, ARGV[2])
call('ZREM', LEASE, ARGV[2])
return 1
