#!lua
-- Store deposits, in order. ARGV: epoch, now in ms, this node, quotas (entries, bytes, large bytes, invites), seconds
-- for which deposits are known again; then for each: header (digest 16, message id 16, lifetime 4, flags 1, fence 0 or
-- 32), body, addresses (24 each). Flags: 1 large, 2 it is known again even if nothing was stored in this bucket.
-- Answers for each: failed (position 2, code 1); records (24 each, the first 8 are the sequence), or nil: it was known;
-- number of its list of addresses. Then the lists (each a string: for each address the number of its queue 2); the queues
-- (mailbox 24, last sequence before 8); owners elsewhere (node 8, mailbox 24, last sequence 8); the version.
local s = load_state()
if not s then return OTHER_EPOCH end
local now_ms, node = tonumber(ARGV[2]), ARGV[3]
local max_entries, max_size, max_large, max_invites =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = math.floor(now_ms / 1000)
local known_until = spack('>I6', now + tonumber(ARGV[8]))
local GONE, FULL, NONE = 40, 26, 65535
local FIRST = 9
local LONG = 256 -- entries from which on they are counted by address

-- Read everything. Many deposits have the same list of addresses.
local digests = {}
for i = FIRST, #ARGV, 3 do digests[#digests + 1] = sub(ARGV[i], 1, 16) end
local seen = hmget(SEEN, digests)
local addresses, identifiers, lists, list_order = {}, {}, {}, {}
for d = 1, #digests do
  if not seen[d] then
    local text = ARGV[FIRST + d * 3 - 1]
    local list = lists[text]
    if not list then
      list = {uses = 0, number = #list_order}
      for i = 1, #text, 24 do
        local id = sub(text, i, i + 23)
        local a = addresses[id]
        if not a then
          a = {}
          addresses[id] = a
          identifiers[#identifiers + 1] = id
        end
        list[#list + 1] = a
      end
      lists[text] = list
      list_order[#list_order + 1] = list
    end
    list.uses = list.uses + 1
  end
end
local by_number, queue_numbers = {}, {}
for i, record in ipairs(hmget(ADDRESS, identifiers)) do
  if record then
    local a = addresses[identifiers[i]]
    a.number, a.queue, a.cap, a.invite = sunpack('>c5c4I4I1', record)
    if not by_number[a.queue] then
      by_number[a.queue] = true
      queue_numbers[#queue_numbers + 1] = a.queue
    end
  end
end
local queues, before = {}, {}
for i, record in ipairs(hmget(QUEUE, queue_numbers)) do
  local q = record and decode_queue(queue_numbers[i], record) or nil
  by_number[queue_numbers[i]] = q
  if q then
    q.index, q.coming, q.least = #queues, 0, LONG
    queues[#queues + 1] = q
    before[#before + 1] = q.id .. sub(record, 41, 48)
  end
end
local indexes = {}
for l, list in ipairs(list_order) do
  local packed = {}
  for i, a in ipairs(list) do
    if type(a.queue) == 'string' then a.queue = by_number[a.queue] end
    local q = a.queue
    if q then
      q.coming = q.coming + list.uses
      if a.cap < q.least then q.least = a.cap end
    end
    packed[i] = spack('>I2', q and q.index or NONE)
  end
  indexes[l] = table.concat(packed)
end
local positions = positions_memo()
for _, q in ipairs(queues) do
  if q.counted == 0 and q.entries + q.coming > q.least then
    local counts = {}
    local fields = {}
    for p = q.head, q.tail - 1 do fields[#fields + 1] = q.number .. positions[p] end
    for _, record in ipairs(hmget(ENTRY, fields)) do
      if record then
        local address = sub(record, 20, 24)
        counts[address] = (counts[address] or 0) + 1
      end
    end
    q.counted, q.counts = 1, counts
  end
end
local counted, counted_numbers = {}, {}
for _, id in ipairs(identifiers) do
  local a = addresses[id]
  if a.queue and a.queue.counted == 1 then
    if a.queue.counts then
      a.waiting = a.queue.counts[a.number] or 0
    else
      counted[#counted + 1] = a
      counted_numbers[#counted_numbers + 1] = a.number
    end
  end
end
for i, count in ipairs(hmget(WAITING, counted_numbers)) do counted[i].waiting = tonumber(count) or 0 end

-- Decide.
local answers = {}
local entries, payloads, references, expiry, remembered, forget = {}, {}, {}, {}, {}, {}
local here, sequences = {}, {}
local count_entries = 0
for d = 1, #digests do
  local digest = digests[d]
  local known = seen[d] or here[digest]
  local answer = #answers
  if known then
    answers[answer + 1] = sub(known, 7)
    answers[answer + 2] = false
    answers[answer + 3] = 0
  else
    local header, body = ARGV[FIRST + d * 3 - 3], ARGV[FIRST + d * 3 - 2]
    local list = lists[ARGV[FIRST + d * 3 - 1]]
    local lifetime, flags = sunpack('>I4I1', header, 33)
    local large, size = flags % 2, #body
    local payload = spack('>I6', s.payloads)
    local middles = {[0] = payload .. spack('>I4I1', size, large), [1] = payload .. spack('>I4I1', size, large + 2)}
    local failed, records, places = {}, {}, {}
    local count = 0
    for i, a in ipairs(list) do
      local q = a.queue
      if not q then
        failed[#failed + 1] = spack('>I2I1', i - 1, GONE)
      elseif q.entries >= max_entries or q.size + size > max_size or (large == 1 and q.large + size > max_large)
        or (a.invite == 1 and q.invites >= max_invites) or (a.waiting and a.waiting >= a.cap) then
        failed[#failed + 1] = spack('>I2I1', i - 1, FULL)
      else
        local ms, n = q.last_ms, q.last_n + 1
        local sequence
        if ms < now_ms then ms, n = now_ms, 0 end
        if ms == now_ms and n < 65536 then
          sequence = sequences[n]
          if not sequence then
            sequence = spack('>I6I2', ms, n)
            sequences[n] = sequence
          end
        else
          if n == 65536 then ms, n = ms + 1, 0 end
          sequence = spack('>I6I2', ms, n)
        end
        q.last_ms, q.last_n, q.changed = ms, n, true
        count = count + 1
        local tail = q.tail
        local place = q.number .. positions[tail]
        local record = sequence .. middles[a.invite] .. a.number
        places[count] = place
        records[count] = record
        entries[count_entries + 1] = place
        entries[count_entries + 2] = record
        count_entries = count_entries + 2
        q.tail = tail + 1
        q.entries = q.entries + 1
        q.size = q.size + size
        if large == 1 then q.large = q.large + size end
        if a.invite == 1 then q.invites = q.invites + 1 end
        if a.waiting then a.waiting = a.waiting + 1 end
      end
    end
    local failures = table.concat(failed)
    answers[answer + 1] = failures
    answers[answer + 2] = table.concat(records)
    answers[answer + 3] = list.number
    if count > 0 then
      s.payloads = s.payloads + 1
      s.entries = s.entries + count
      s.size = s.size + count * size
      payloads[#payloads + 1] = payload
      payloads[#payloads + 1] = spack('>I6I4', now + lifetime, #header - 37) .. sub(header, 17, 32) .. sub(header, 38)
        .. spack('>I4', size) .. body .. table.concat(places)
      references[#references + 1] = payload
      references[#references + 1] = count
      expiry[#expiry + 1] = now + lifetime
      expiry[#expiry + 1] = 'p' .. payload
    end
    if count > 0 or flags >= 2 then
      local record = known_until .. failures
      here[digest] = record
      remembered[#remembered + 1] = digest
      remembered[#remembered + 1] = record
      forget[#forget + 1] = known_until .. digest
    end
  end
end

-- Write everything; at least the version, so that what is answered from before is waited for as well.
save_state(s)
local elsewhere = {}
if #remembered > 0 then
  write('HSET', PAYLOAD, payloads)
  write('HSET', REFERENCE, references)
  write('ZADD', EXPIRY, expiry)
  write('HSET', ENTRY, entries)
  local changed, counts = {}, {}
  for _, q in ipairs(queues) do
    if q.changed then
      changed[q.number] = q
      if q.node ~= node and q.node ~= NOBODY then
        elsewhere[#elsewhere + 1] = q.node .. q.id .. spack('>I6I2', q.last_ms, q.last_n)
      end
    end
    if q.counts then
      changed[q.number] = q
      for address, count in pairs(q.counts) do
        counts[#counts + 1] = address
        counts[#counts + 1] = count
      end
    end
  end
  write_queues(changed)
  for _, a in pairs(addresses) do
    if a.waiting and a.waiting > 0 then
      counts[#counts + 1] = a.number
      counts[#counts + 1] = a.waiting
    end
  end
  write('HSET', WAITING, counts)
  write('HSET', SEEN, remembered)
  write('RPUSH', FORGET, forget)
end
local last = #answers
answers[last + 1] = indexes
answers[last + 2] = table.concat(before)
answers[last + 3] = table.concat(elsewhere)
answers[last + 4] = s.version
return answers
