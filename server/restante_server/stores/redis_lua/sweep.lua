#!lua flags=allow-oom
-- Drop what has expired. ARGV: epoch, now in seconds, most of each kind, most entries. Answers 1 if there may be more.
local s = load_state()
if not s then return OTHER_EPOCH end
local now, limit, budget = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local members = call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, limit)
local more = #members == limit and 1 or 0
local removal, queues, over = new_removal(s), {}, {}
local hashes = {s = SLOT, c = CODE, f = FENCE}
for _, member in ipairs(members) do
  local kind, id = sub(member, 1, 1), sub(member, 2)
  if kind == 'p' then
    if budget <= 0 then
      more = 1
      break
    end
    local record = call('HGET', PAYLOAD, id)
    local _, fence = sunpack('>I6I4', record)
    local size = sunpack('>I4', record, 27 + fence)
    local places = {}
    for i = 31 + fence + size, #record, 8 do places[#places + 1] = sub(record, i, i + 7) end
    budget = budget - #places
    for i, entry in ipairs(hmget(ENTRY, places)) do
      local number = sub(places[i], 1, 4)
      if entry and sub(entry, 9, 14) == id then
        if not queues[number] then queues[number] = decode_queue(number, call('HGET', QUEUE, number)) end
        local q = queues[number]
        remove_entry(removal, q, places[i], entry)
        if sunpack('>I4', places[i], 5) == q.head then q.head = q.head + 1 end
      end
    end
  else
    call('HDEL', hashes[kind], id)
    over[#over + 1] = member
  end
end
finish(removal)
for _, q in pairs(queues) do
  if q.entries == 0 then q.head = q.tail end
end
write_queues(queues)
write('ZREM', EXPIRY, over)

-- Deposits that need not be known again.
local forgotten, count = {}, 0
for _, record in ipairs(call('LRANGE', FORGET, 0, limit - 1)) do
  if sunpack('>I6', record) > now then break end
  count = count + 1
  forgotten[count] = sub(record, 7)
end
if count > 0 then
  call('LTRIM', FORGET, count, -1)
  for i, known in ipairs(hmget(SEEN, forgotten)) do
    -- It may have been forgotten at once and stored later.
    if known and sunpack('>I6', known) > now then forgotten[i] = '' end
  end
  write('HDEL', SEEN, forgotten)
end
if count == limit then more = 1 end

-- Addresses of deleted mailboxes.
local cursor = call('HGET', STATE, 'garbage')
if cursor then
  local page = call('HSCAN', ADDRESS, cursor, 'COUNT', limit)
  local identifiers, numbers, gone = {}, {}, {}
  for i = 1, #page[2], 2 do
    identifiers[#identifiers + 1] = page[2][i]
    numbers[#numbers + 1] = sub(page[2][i + 1], 6, 9)
  end
  for i, record in ipairs(hmget(QUEUE, numbers)) do
    if not record then gone[#gone + 1] = identifiers[i] end
  end
  write('HDEL', ADDRESS, gone)
  if page[1] == '0' then
    call('HDEL', STATE, 'garbage')
  else
    call('HSET', STATE, 'garbage', page[1])
    more = 1
  end
end
if #members > 0 or count > 0 then save_state(s) end
return more
