#!lua flags=allow-oom
-- Acknowledge. ARGV: epoch, then for each: mailbox, and owner token 8, incarnation 16, sequence 8, exceptions 8 each.
-- Answers 1 or 0 for each, then the version.
local s = load_state()
if not s then return OTHER_EPOCH end
local STEP = 64
local answers, queues, changed, gone = {}, {}, false, {}
local removal = new_removal(s)
local positions = positions_memo()
for i = 2, #ARGV, 2 do
  local m, order = load_mailbox(ARGV[i]), ARGV[i + 1]
  local q = m and (queues[m.number] or load_queue(m))
  if not q or q.token ~= sub(order, 1, 8) or q.token == NOBODY or m.incarnation ~= sub(order, 9, 24) then
    answers[#answers + 1] = 0
  else
    answers[#answers + 1] = 1
    queues[m.number] = q
    changed = true
    local ms, n = sunpack('>I6I2', order, 25)
    if ms > q.last_ms or (ms == q.last_ms and n > q.last_n) then ms, n = q.last_ms, q.last_n end
    local kept
    if #order > 32 then
      kept = {}
      for e = 33, #order, 8 do kept[sub(order, e, e + 7)] = true end
    end
    local head, position, done = nil, q.head, false
    while position < q.tail and not done do
      local fields = {}
      for p = position, math.min(position + STEP, q.tail) - 1 do fields[#fields + 1] = q.number .. positions[p] end
      for f, record in ipairs(call('HMGET', ENTRY, unpack(fields))) do
        local field = fields[f]
        if record and not gone[field] then
          local e_ms, e_n, payload, size, flags, address = sunpack(ENTRY_FORMAT, record)
          if e_ms > ms or (e_ms == ms and e_n > n) then
            done = true
            break
          end
          if kept and kept[sub(record, 1, 8)] then
            head = head or position
          else
            gone[field] = true
            remove_entry(removal, q, field, payload, address, size, flags)
          end
        end
        position = position + 1
      end
    end
    q.head = head or position
    if ms > q.acknowledged_ms or (ms == q.acknowledged_ms and n > q.acknowledged_n) then
      q.acknowledged_ms, q.acknowledged_n = ms, n
    end
  end
end
if changed then
  finish(removal)
  write_queues(queues)
  save_state(s)
end
answers[#answers + 1] = s.version
return answers
