#!lua flags=allow-oom
-- ARGV: epoch, tag. Answers message id 16, digest of the body 32, body; or nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
save_state(s) -- so that it is waited for: nobody learns of a winner that may be lost
local record = call('HGET', FENCE, ARGV[2])
if not record then return false end
return {sub(record, 1, 16), sub(record, 17, 48), sub(record, 71)}
