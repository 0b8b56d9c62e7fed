#!lua flags=allow-oom
-- Delete a mailbox; its addresses lead nowhere from now on, and a sweep removes them. ARGV: epoch, mailbox.
-- Answers its owner's node, or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then
  save_state(s)
  return false
end
-- First what is in keys of its own: should one be elsewhere already, while a slot moves, nothing else has happened.
for i = 1, #m.suites, 2 do
  local field = m.number .. sub(m.suites, i, i + 1)
  call('DEL', packages_of(field))
  call('HDEL', POOL, field)
  call('HDEL', LAST_RESORT, field)
end
local q = load_queue(m)
local removal = new_removal(s)
local fields = {}
for position = q.head, q.tail - 1 do fields[#fields + 1] = q.number .. spack('>I4', position) end
for i, record in ipairs(hmget(ENTRY, fields)) do
  if record then remove_entry(removal, q, fields[i], record) end
end
finish(removal)
call('HDEL', QUEUE, m.number)
call('HDEL', STATE, 'spent' .. m.number)
call('HDEL', MAILBOX, m.id)
if m.addresses > 0 then call('HSET', STATE, 'garbage', '0') end
s.mailboxes = s.mailboxes - 1
save_state(s)
call('HINCRBY', STATE, 'revocations', 1)
return q.node
