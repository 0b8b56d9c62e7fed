#!lua
-- Keep for its owner that an address is spent. ARGV: epoch, address, most addresses. Answers mailbox 24, its owner's
-- node 8; or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local record = call('HGET', ADDRESS, ARGV[2])
local number = record and sub(record, 6, 9)
local queue = number and call('HGET', QUEUE, number)
if not queue then return false end
local spent = call('HGET', STATE, 'spent' .. number) or ''
local known = #spent >= 24 * tonumber(ARGV[3])
for i = 1, #spent, 24 do known = known or sub(spent, i, i + 23) == ARGV[2] end
if not known then
  save_state(s)
  call('HSET', STATE, 'spent' .. number, spent .. ARGV[2])
end
return sub(queue, 1, 32)
