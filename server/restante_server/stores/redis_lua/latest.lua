#!lua flags=no-writes
-- ARGV: epoch, mailboxes. Answers for each its owner's node, its token, the last sequence and the highest that was
-- acknowledged (8 each), or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local identifiers, numbers, answers = {}, {}, {}
for i = 2, #ARGV do identifiers[#identifiers + 1] = ARGV[i] end
for i, record in ipairs(hmget(MAILBOX, identifiers)) do numbers[i] = record and sub(record, 1, 4) or NOBODY end
for i, record in ipairs(hmget(QUEUE, numbers)) do answers[i] = record and sub(record, 25, 56) end
return answers
