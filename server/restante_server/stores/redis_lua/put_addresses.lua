#!lua
-- Register addresses. ARGV: epoch, mailbox, most addresses, then for each: address 24, cap 4, kind 1.
-- Answers 0, 1 for no mailbox, 2 for too many.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return 1 end
local identifiers, owners = {}, {}
for i = 4, #ARGV do identifiers[#identifiers + 1] = sub(ARGV[i], 1, 24) end
local records, fresh = {}, 0
for i, record in ipairs(hmget(ADDRESS, identifiers)) do
  owners[i] = record and sub(record, 6, 9) or NOBODY
  records[i] = record
end
local exists = hmget(QUEUE, owners)
local known = {}
for i, id in ipairs(identifiers) do
  if exists[i] then
    known[id] = records[i]
  elseif known[id] == nil then
    known[id] = false
    fresh = fresh + 1
  end
end
if m.addresses + fresh > tonumber(ARGV[3]) then return 2 end
local fields, stale = {}, {}
for i, id in ipairs(identifiers) do
  local number = known[id] and sub(known[id], 1, 5)
  if not number then
    number = spack('>I5', s.addresses)
    s.addresses = s.addresses + 1
    known[id] = number .. m.number
  end
  if sub(known[id], 6, 9) == m.number then
    fields[#fields + 1] = id
    fields[#fields + 1] = number .. m.number .. sub(ARGV[3 + i], 25)
  end
end
m.addresses = m.addresses + fresh
save_state(s)
write('HSET', ADDRESS, fields)
save_mailbox(m)
return 0
