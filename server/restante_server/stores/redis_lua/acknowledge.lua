#!lua flags=allow-oom
-- Acknowledge. ARGV: epoch, then for each: mailbox, and owner token 8, incarnation 16, sequence 8, exceptions 8 each.
-- Answers 1 or 0 for each, then the version if anything changed, else 0.
local s = load_state()
if not s then return OTHER_EPOCH end
local STEP = 16
local answers, queues, changed = {}, {}, false
local removal, positions, sizes = new_removal(s), positions_memo(), sizes_memo()
local now_is = {} -- by field: what an entry has become here, or false

-- Acknowledge what of an entry is not above (ms, n) and not kept. Return whether anything of it is left.
local function take(q, field, record, ms, n, kept)
  local e_ms, e_n, lead, size, flags, address = sunpack(ENTRY_FORMAT, record)
  if not kept and (e_ms < ms or e_n + last_of(record, flags) <= n) then
    now_is[field] = false
    remove_entry(removal, q, field, record)
    return false
  end
  local left, gone, gone_size = {}, 0, 0
  for _, place in ipairs(members_of(record, flags)) do
    local over = e_ms > ms or (e_ms == ms and e_n + place > n)
    if over or (kept and kept[spack('>I6I2', e_ms, e_n + place)]) then
      left[#left + 1] = place
    else
      gone = gone + 1
      gone_size = gone_size + sizes[lead][place + 1]
    end
  end
  if #left == 0 then
    now_is[field] = false
    remove_entry(removal, q, field, record)
  elseif gone > 0 then
    now_is[field] = entry_with(record, left, size - gone_size, flags)
    uncount(removal, q, gone, gone_size, flags, address)
  end
  return #left > 0
end

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
        if now_is[field] ~= nil then record = now_is[field] end
        if record then
          local e_ms, e_n = sunpack('>I6I2', record)
          if e_ms > ms or (e_ms == ms and e_n > n) then
            done = true
            break
          end
          if take(q, field, record, ms, n, kept) then head = head or position end
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
  local left = {}
  for field, record in pairs(now_is) do
    if record then
      left[#left + 1] = field
      left[#left + 1] = record
    end
  end
  write('HSET', ENTRY, left)
  finish(removal)
  write_queues(queues)
  save_state(s)
end
answers[#answers + 1] = changed and s.version or 0 -- what others wrote is not waited for here
return answers
