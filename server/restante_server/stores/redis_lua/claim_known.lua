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
  local key = KEYS[i]
  local package = call('LPOP', key)
  answers[i - own] = package
  if package and call('LLEN', key) == low_mark - 1 then
    local field = sub(key, #PREKEY + 2)
    local queue = call('HGET', QUEUE, sub(field, 1, 4))
    lows[#lows + 1] = sub(queue, 1, 24) .. sub(field, 5, 6) .. spack('>I4', low_mark - 1) .. sub(queue, 25, 32)
  end
end
save_state(s)
answers[#answers + 1] = table.concat(lows)
answers[#answers + 1] = s.version
return answers
