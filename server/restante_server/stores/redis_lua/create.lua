#!lua
-- Create a mailbox unless it exists. ARGV: epoch, mailbox, receive key, incarnation to take, 1 to create it.
-- Answers its incarnation, or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if m then
  save_state(s)
  return m.incarnation
end
if ARGV[5] ~= '1' then return false end
local number = spack('>I4', s.queues)
s.queues = s.queues + 1
s.mailboxes = s.mailboxes + 1
save_state(s)
save_mailbox({id = ARGV[2], number = number, incarnation = ARGV[4], epoch = s.epoch, addresses = 0, key = ARGV[3],
  suites = ''})
call('HSET', QUEUE, number, encode_queue({id = ARGV[2], node = NOBODY, token = NOBODY, last_ms = 0, last_n = 0,
  acknowledged_ms = 0, acknowledged_n = 0, head = 0, tail = 0, entries = 0, size = 0, large = 0, invites = 0, counted = 0}))
return ARGV[4]
