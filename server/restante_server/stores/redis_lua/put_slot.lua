#!lua
-- ARGV: epoch, slot, version 8, the version before 8, now, expiry, body. Answers 1 or 0.
local s = load_state()
if not s then return OTHER_EPOCH end
local record = call('HGET', SLOT, ARGV[2])
if record and sunpack('>I6', record, 9) <= tonumber(ARGV[5]) then record = false end
local version = record and sub(record, 1, 8) or NOBODY
if version ~= ARGV[4] and not (record and version == ARGV[3] and sub(record, 15) == ARGV[7]) then return 0 end
save_state(s)
call('HSET', SLOT, ARGV[2], ARGV[3] .. spack('>I6', tonumber(ARGV[6])) .. ARGV[7])
call('ZADD', EXPIRY, ARGV[6], 's' .. ARGV[2])
return 1
