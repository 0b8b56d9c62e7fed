#!lua flags=no-writes
-- ARGV: epoch. Answers mailboxes, entries, bytes.
local s = load_state()
if not s then return OTHER_EPOCH end
return {s.mailboxes, s.entries, s.size}
