#!lua
-- Store deposits, in order. ARGV: epoch, now in ms, this node, quotas (entries, bytes, large bytes, invites), seconds
-- for which deposits are known again; then for each: header (digest 16, message id 16, lifetime 4, flags 1, fence 0 or
-- 32), body, addresses (24 each). Flags: 1 large, 2 it is known again even if nothing was stored in this bucket.
-- Answers for each: failed (position 2, code 1), recipients (mailbox 24, sequence 8, the one before 8), owners elsewhere
-- (node 8, mailbox 24, sequence 8); nil recipients: it was known. Then the version.
local s = load_state()
if not s then return OTHER_EPOCH end
local now_ms, node = tonumber(ARGV[2]), ARGV[3]
local max_entries, max_size, max_large, max_invites =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = math.floor(now_ms / 1000)
local known_until = now + tonumber(ARGV[8])
local GONE, FULL = 40, 26
local FIRST = 9

-- Read everything.
local digests = {}
for i = FIRST, #ARGV, 3 do digests[#digests + 1] = sub(ARGV[i], 1, 16) end
local seen = hmget(SEEN, digests)
local addresses, identifiers = {}, {}
for d = 1, #digests do
  if not seen[d] then
    local list = ARGV[FIRST + d * 3 - 1]
    for i = 1, #list, 24 do
      local id = sub(list, i, i + 23)
      if addresses[id] == nil then
        addresses[id] = false
        identifiers[#identifiers + 1] = id
      end
    end
  end
end
local queues, queue_numbers, address_numbers, found_addresses = {}, {}, {}, {}
for i, record in ipairs(hmget(ADDRESS, identifiers)) do
  if record then
    local a = {}
    a.number, a.queue, a.cap, a.invite = sunpack('>c5c4I4I1', record)
    addresses[identifiers[i]] = a
    found_addresses[#found_addresses + 1] = a
    address_numbers[#address_numbers + 1] = a.number
    if not queues[a.queue] then
      queues[a.queue] = true
      queue_numbers[#queue_numbers + 1] = a.queue
    end
  end
end
for i, record in ipairs(hmget(QUEUE, queue_numbers)) do
  local number = queue_numbers[i]
  queues[number] = record and decode_queue(number, record) or nil
end
for i, count in ipairs(hmget(WAITING, address_numbers)) do
  local a = found_addresses[i]
  a.waiting = tonumber(count) or 0
  a.queue = queues[a.queue]
end

-- Decide.
local answers, changed_queues, changed_addresses = {}, {}, {}
local entries, payloads, references, expiry, remembered, forget = {}, {}, {}, {}, {}, {}
local here = {}
for d = 1, #digests do
  local digest = digests[d]
  local known = seen[d] or here[digest]
  if known then
    answers[#answers + 1] = sub(known, 7)
    answers[#answers + 1] = false
    answers[#answers + 1] = ''
  else
    local header, body, list = ARGV[FIRST + d * 3 - 3], ARGV[FIRST + d * 3 - 2], ARGV[FIRST + d * 3 - 1]
    local lifetime, flags = sunpack('>I4I1', header, 33)
    local large, size = flags % 2, #body
    local remember_failures = flags >= 2
    local payload = spack('>I6', s.payloads)
    local failed, recipients, elsewhere, places = {}, {}, {}, {}
    for i = 1, #list, 24 do
      local a = addresses[sub(list, i, i + 23)]
      local q = a and a.queue
      if not q then
        failed[#failed + 1] = spack('>I2I1', (i - 1) / 24, GONE)
      elseif a.waiting >= a.cap or q.entries >= max_entries or q.size + size > max_size
        or (large == 1 and q.large + size > max_large) or (a.invite == 1 and q.invites >= max_invites) then
        failed[#failed + 1] = spack('>I2I1', (i - 1) / 24, FULL)
      else
        local before_ms, before_n = q.last_ms, q.last_n
        local ms, n
        if before_ms < now_ms then
          ms, n = now_ms, 0
        elseif before_n < 65535 then
          ms, n = before_ms, before_n + 1
        else
          ms, n = before_ms + 1, 0
        end
        q.last_ms, q.last_n = ms, n
        local place = q.number .. spack('>I4', q.tail)
        places[#places + 1] = place
        entries[#entries + 1] = place
        entries[#entries + 1] = spack(ENTRY_FORMAT, ms, n, payload, a.number, size, large + 2 * a.invite)
        q.tail = q.tail + 1
        q.entries = q.entries + 1
        q.size = q.size + size
        if large == 1 then q.large = q.large + size end
        q.invites = q.invites + a.invite
        a.waiting = a.waiting + 1
        changed_queues[q.number] = q
        changed_addresses[a] = true
        if q.node ~= node and q.node ~= NOBODY then
          elsewhere[#elsewhere + 1] = q.node .. q.id .. spack('>I6I2', ms, n)
        end
        recipients[#recipients + 1] = spack('>c24I6I2I6I2', q.id, ms, n, before_ms, before_n)
      end
    end
    local count = #recipients
    local failures = table.concat(failed)
    answers[#answers + 1] = failures
    answers[#answers + 1] = table.concat(recipients)
    answers[#answers + 1] = table.concat(elsewhere)
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
    if count > 0 or remember_failures then
      local record = spack('>I6', known_until) .. failures
      here[digest] = record
      remembered[#remembered + 1] = digest
      remembered[#remembered + 1] = record
      forget[#forget + 1] = spack('>I6', known_until) .. digest
    end
  end
end

-- Write everything; at least the version, so that what is answered from before is waited for as well.
save_state(s)
if #remembered > 0 then
  write('HSET', PAYLOAD, payloads)
  write('HSET', REFERENCE, references)
  write('ZADD', EXPIRY, expiry)
  write('HSET', ENTRY, entries)
  write_queues(changed_queues)
  local counts = {}
  for a in pairs(changed_addresses) do
    counts[#counts + 1] = a.number
    counts[#counts + 1] = a.waiting
  end
  write('HSET', WAITING, counts)
  write('HSET', SEEN, remembered)
  write('RPUSH', FORGET, forget)
end
answers[#answers + 1] = s.version
return answers
