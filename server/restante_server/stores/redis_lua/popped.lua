#!lua flags=allow-oom
-- Packages were popped before this from pools that were looked up once: count it, so that a replica without is known.
-- ARGV: epoch, then for each call the epoch and the revocations that it knew. Answers the version, and 0 if they hold,
-- 1 if an address may have been revoked since, 2 if the epoch is another.
local s = load_state()
if not s then return OTHER_EPOCH end
save_state(s)
local state = 0
for i = 2, #ARGV do
  if sub(ARGV[i], 1, #s.epoch) ~= s.epoch then
    state = 2
  elseif ARGV[i] ~= s.epoch .. s.revocations then
    state = math.max(state, 1)
  end
end
return {s.version, state}
