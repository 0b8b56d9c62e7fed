#!lua flags=allow-oom
-- ARGV: epoch, slot.
local s = load_state()
if not s then return OTHER_EPOCH end
call('HDEL', SLOT, ARGV[2])
call('ZREM', EXPIRY, 's' .. ARGV[2])
save_state(s)
return 1
