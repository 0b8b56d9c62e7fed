#!lua flags=allow-oom
-- Take over fences whose lease has ended. ARGV: epoch, now in ms, end of the new lease in ms, most.
-- Answers the deposits.
local s = load_state()
if not s then return OTHER_EPOCH end
local tags = call('ZRANGEBYSCORE', LEASE, '-inf', ARGV[2], 'LIMIT', 0, ARGV[4])
local answers = {}
for i, tag in ipairs(tags) do
  answers[i] = call('HGET', PENDING, tag)
  call('ZADD', LEASE, ARGV[3], tag)
end
return answers
