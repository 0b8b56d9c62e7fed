#!lua flags=no-writes
-- ARGV: epoch, slot, now. Answers version and body, or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local record = call('HGET', SLOT, ARGV[2])
if not record then return false end
local version, expires = sunpack('>c8I6', record)
if expires <= tonumber(ARGV[3]) then return false end
return {version, sub(record, 15)}
