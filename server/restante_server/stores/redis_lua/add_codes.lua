#!lua
-- ARGV: epoch, expiry, hashes.
local s = load_state()
if not s then return OTHER_EPOCH end
for i = 3, #ARGV do
  call('HSET', CODE, ARGV[i], spack('>I6', tonumber(ARGV[2])))
  call('ZADD', EXPIRY, ARGV[2], 'c' .. ARGV[i])
end
save_state(s)
return 1
