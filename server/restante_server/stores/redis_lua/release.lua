#!lua flags=allow-oom
-- Forget a mailbox's owner if it still is this one. ARGV: epoch, mailbox, owner token.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return 0 end
local q = load_queue(m)
if q.token ~= ARGV[3] then return 0 end
q.node, q.token = NOBODY, NOBODY
write_queues({[q.number] = q})
save_state(s)
return 1
