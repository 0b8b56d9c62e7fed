#!lua flags=no-writes
-- ARGV: epoch, mailbox. Answers last sequence, entries, bytes, pools; or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return false end
local q = load_queue(m)
return {spack('>I6I2', q.last_ms, q.last_n), q.entries, q.size, pools_of(m, s.epoch)}
