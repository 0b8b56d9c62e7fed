#!lua
-- ARGV: epoch, expiry, hashes. One that is known, used up or not, stays as it is.
local s = load_state()
if not s then return OTHER_EPOCH end
for i = 3, #ARGV do
  if call('HSETNX', CODE, ARGV[i], spack('>I6', tonumber(ARGV[2]))) == 1 then
    call('ZADD', EXPIRY, ARGV[2], 'c' .. ARGV[i])
  end
end
save_state(s)
return 1
