#!lua flags=allow-oom
-- Revoke addresses of a mailbox. ARGV: epoch, mailbox, addresses.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return 0 end
local identifiers = {}
for i = 3, #ARGV do identifiers[#identifiers + 1] = ARGV[i] end
local gone, done = {}, {}
for i, record in ipairs(hmget(ADDRESS, identifiers)) do
  local id = identifiers[i]
  if record and sub(record, 6, 9) == m.number and not done[id] then
    done[id] = true
    gone[#gone + 1] = id
  end
end
write('HDEL', ADDRESS, gone)
m.addresses = m.addresses - #gone
save_mailbox(m)
save_state(s)
if #gone > 0 then call('HINCRBY', STATE, 'revocations', 1) end
return #gone
