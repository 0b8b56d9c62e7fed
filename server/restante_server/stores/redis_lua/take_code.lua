#!lua
-- Keep an invite code for a mailbox, or use up what is kept for it. ARGV: epoch, hash, mailbox, now or empty: use up.
-- Answers 1, or 0 if there is none for this mailbox. What is used up stays, for nobody (zeros), until it expires.
local s = load_state()
if not s then return OTHER_EPOCH end
local record = call('HGET', CODE, ARGV[2])
if ARGV[4] == '' then
  if record and sub(record, 7) == ARGV[3] then
    call('HSET', CODE, ARGV[2], sub(record, 1, 6) .. string.rep('\0', 24))
    save_state(s)
  end
  return 1
end
if not record or sunpack('>I6', record) <= tonumber(ARGV[4]) then return 0 end
if #record > 6 and sub(record, 7) ~= ARGV[3] then return 0 end
call('HSET', CODE, ARGV[2], sub(record, 1, 6) .. ARGV[3])
save_state(s)
return 1
