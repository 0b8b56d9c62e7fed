#!lua flags=allow-oom
-- Issue prekeys of pools that were looked up before: their lists are the keys after the bucket's own. ARGV: epoch, low
-- mark, then for each call the epoch and the revocations that it knows. Answers each package as a claim's answer has it, or
-- nothing where a pool is empty; pools that ran low (mailbox 24, suite 2, left 4, owner 8); and the version.
local s = load_state()
if not s then return OTHER_EPOCH end
local low_mark, current = tonumber(ARGV[2]), s.epoch .. s.revocations
for i = 3, #ARGV do
  if ARGV[i] ~= current then return {err = 'STALE an address may be revoked'} end
end
local answers, lows, own = {}, {}, 19
for i = own + 1, #KEYS do
  local package = call('LPOP', KEYS[i])
  if package and byte(package) == LOW_BYTE then
    package, lows[#lows + 1] = run_low(package, sub(KEYS[i], #PREKEY + 2), low_mark)
  end
  answers[i - own] = package
end
save_state(s)
answers[#answers + 1] = table.concat(lows)
answers[#answers + 1] = s.version
return answers
