#!lua flags=allow-oom
-- Make a node the owner of a mailbox. ARGV: epoch, mailbox, incarnation presented or empty, highest sequence seen, node,
-- owner token, incarnation to take if a new one is needed, then for each pool: suite 2, uploaded 6, used 6.
-- Answers incarnation, acknowledged, last sequence, pools, the former owner's node and token, spent addresses; or
-- nothing.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return false end
local q = load_queue(m)
local seen_ms, seen_n = sunpack('>I6I2', ARGV[4])
local renewed = (ARGV[3] ~= '' and ARGV[3] ~= m.incarnation) or m.epoch ~= s.epoch
local further = seen_ms > q.last_ms or (seen_ms == q.last_ms and seen_n > q.last_n)
local pools, known = {}, {}
for i = 1, #m.suites, 2 do
  local suite = sub(m.suites, i, i + 1)
  pools[suite] = decode_pool(m.number .. suite, call('HGET', POOL, m.number .. suite), s.epoch)
end
local behind = false
for i = 8, #ARGV do
  local suite, uploaded, used = sunpack('>c2I6I6', ARGV[i])
  local p = pools[suite]
  known[#known + 1] = {suite, math.max(uploaded, used), used}
  if uploaded > (p and p.uploaded or 0) or used > (p and p.issued or 0) then behind = true end
end
if renewed or further or behind then
  m.incarnation, m.epoch = ARGV[7], s.epoch
  if further then q.last_ms, q.last_n = seen_ms, seen_n end
  q.acknowledged_ms, q.acknowledged_n = 0, 0
  for _, k in ipairs(known) do
    local p = pools[k[1]]
    if k[2] > 0 and not p then
      p = {uploaded = 0, issued = 0, last_resort = 0}
      pools[k[1]] = p
      m.suites = m.suites .. k[1]
    end
    if p then
      p.uploaded = math.max(p.uploaded, k[2])
      p.issued = math.max(p.issued, k[3])
    end
  end
  for suite, p in pairs(pools) do
    clear_pool(m.number .. suite, p, s.epoch)
    call('HSET', POOL, m.number .. suite, encode_pool(p))
  end
  save_mailbox(m)
end
local node, token = q.node, q.token
q.node, q.token = ARGV[5], ARGV[6]
write_queues({[q.number] = q})
save_state(s)
local spent = call('HGET', STATE, 'spent' .. m.number)
if spent then call('HDEL', STATE, 'spent' .. m.number) end
return {m.incarnation, spack('>I6I2', q.acknowledged_ms, q.acknowledged_n), spack('>I6I2', q.last_ms, q.last_n),
  pools_of(m, s.epoch), node, token, spent or ''}
