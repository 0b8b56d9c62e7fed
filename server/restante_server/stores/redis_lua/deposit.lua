#!lua
-- Store deposits, in order. ARGV: epoch, now in ms, this node, quotas (entries, bytes, large bytes, invites), seconds
-- for which deposits are known again; how many lists of addresses, and these (24 each); then for each deposit: header
-- (digest 16, message id 16, lifetime 4, flags 1, list 2, fence 0 or 32), body. Flags: 1 large, 2 it is known again even
-- if nothing was stored in this bucket.
-- Deposits to the same list are stored as one group, as long as none of its mailboxes is met through another list.
-- Answers for each deposit what failed (position 2, code 1); then the groups, flat: list, deposits (2 each), sequence
-- of the first in each mailbox that took it (8 each), what failed; the lists (each a string: for each address the number
-- of its queue 2); the queues (mailbox 24, last sequence before 8); owners elsewhere (node 8, mailbox 24); the version.
local s = load_state()
if not s then return OTHER_EPOCH end
local now_ms, node = tonumber(ARGV[2]), ARGV[3]
local max_entries, max_size, max_large, max_invites =
  tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = math.floor(now_ms / 1000)
local known_until = spack('>I6', now + tonumber(ARGV[8]))
local GONE, FULL, NONE = 40, 26, 65535
local LISTS = 9
local FIRST = LISTS + 1 + tonumber(ARGV[LISTS])
local LONG = 256 -- entries from which on they are counted by address
local MOST = 128 -- deposits of a group: a part of what a connection may have in flight
local HEADER = 39 -- bytes before the fence

-- Read everything.
local headers, digests = {}, {}
for i = FIRST, #ARGV, 2 do
  headers[#headers + 1] = ARGV[i]
  digests[#digests + 1] = sub(ARGV[i], 1, 16)
end
local seen = hmget(SEEN, digests)
local addresses, identifiers, lists = {}, {}, {}
for l = 1, FIRST - LISTS - 1 do lists[l] = {number = l - 1, uses = 0} end
for d, header in ipairs(headers) do
  if not seen[d] then
    local list = lists[sunpack('>I2', header, 38) + 1]
    list.uses = list.uses + 1
  end
end
for l, list in ipairs(lists) do
  if list.uses > 0 then
    local text = ARGV[LISTS + l]
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
for l, list in ipairs(lists) do
  local packed = {}
  for i, a in ipairs(list) do
    if type(a.queue) == 'string' then a.queue = by_number[a.queue] end
    local q = a.queue
    if q then
      if q.list == list then list.twice = true end
      q.list = list
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
        counts[address] = (counts[address] or 0) + count_of(record, byte(record, 19))
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
local entries, payloads, references, expiry, remembered, forget = {}, {}, {}, {}, {}, {}
local sequences, outcomes, stored = {}, {}, {}
local count_entries = 0

local function fits(a, q, count, size, large)
  return q.entries + count <= max_entries and q.size + size <= max_size
    and (large == 0 or q.large + size <= max_large)
    and (a.invite == 0 or q.invites + count <= max_invites)
    and (not a.waiting or a.waiting + count <= a.cap)
end

-- Give deposits to every mailbox of a list that has room for all of them.
local function store(list, members, size)
  local count = #members
  local lifetime, flags = sunpack('>I4I1', headers[members[1]], 33)
  local large = flags % 2
  local lead = spack('>I6', s.payloads)
  local middles = {[0] = lead .. spack('>I4I1', size, large), [1] = lead .. spack('>I4I1', size, large + 2)}
  local span = string.char(0, count)
  local failed, firsts, places = {}, {}, {}
  local taken = 0
  for i, a in ipairs(list) do
    local q = a.queue
    if not q then
      failed[#failed + 1] = spack('>I2I1', i - 1, GONE)
    elseif not fits(a, q, count, size, large) then
      failed[#failed + 1] = spack('>I2I1', i - 1, FULL)
    else
      local ms, n = q.last_ms, q.last_n + 1
      if ms < now_ms then ms, n = now_ms, 0 end
      if n + count > 65536 then ms, n = ms + 1, 0 end
      local sequence
      if ms == now_ms then
        sequence = sequences[n]
        if not sequence then
          sequence = spack('>I6I2', ms, n)
          sequences[n] = sequence
        end
      else
        sequence = spack('>I6I2', ms, n)
      end
      q.last_ms, q.last_n, q.changed = ms, n + count - 1, true
      taken = taken + 1
      local tail = q.tail
      local place = q.number .. positions[tail]
      places[taken] = place
      firsts[taken] = sequence
      entries[count_entries + 1] = place
      entries[count_entries + 2] = sequence .. middles[a.invite] .. a.number .. span
      count_entries = count_entries + 2
      q.tail = tail + 1
      q.entries = q.entries + count
      q.size = q.size + size
      if large == 1 then q.large = q.large + size end
      if a.invite == 1 then q.invites = q.invites + count end
      if a.waiting then a.waiting = a.waiting + count end
    end
  end
  local failures = table.concat(failed)
  if taken > 0 then
    s.entries = s.entries + taken * count
    s.size = s.size + taken * size
    local waiting, numbers = {spack('>I4', taken)}, {}
    for i, d in ipairs(members) do
      local header, body = headers[d], ARGV[FIRST + d * 2 - 1]
      payloads[#payloads + 1] = spack('>I6', s.payloads)
      payloads[#payloads + 1] = spack('>I6I4', now + lifetime, #header - HEADER) .. sub(header, 17, 32)
        .. sub(header, HEADER + 1) .. spack('>I4', #body) .. body .. (i == 1 and table.concat(places) or '')
      s.payloads = s.payloads + 1
      waiting[i + 1] = spack('>I4', #body)
      numbers[i] = spack('>I2', d - 1)
    end
    references[#references + 1] = lead
    references[#references + 1] = table.concat(waiting)
    expiry[#expiry + 1] = now + lifetime
    expiry[#expiry + 1] = 'p' .. lead
    local last = #stored
    stored[last + 1] = list.number
    stored[last + 2] = table.concat(numbers)
    stored[last + 3] = table.concat(firsts)
    stored[last + 4] = failures
  end
  for _, d in ipairs(members) do
    outcomes[d] = failures
    if taken > 0 or byte(headers[d], 37) >= 2 then
      local record = known_until .. failures
      remembered[#remembered + 1] = digests[d]
      remembered[#remembered + 1] = record
      forget[#forget + 1] = known_until .. digests[d]
    end
  end
end

-- Say whether each mailbox of a group takes either all of it or nothing.
local function uniform(group)
  for _, a in ipairs(group.list) do
    local q = a.queue
    if q and not fits(a, q, #group.members, group.size, 0) and fits(a, q, 1, group.least, 0) then return false end
  end
  return true
end

local function seal(group)
  if group.sealed then return end
  group.sealed = true
  if #group.members == 1 or uniform(group) then return store(group.list, group.members, group.size) end
  for _, d in ipairs(group.members) do store(group.list, {d}, #ARGV[FIRST + d * 2 - 1]) end
end

local here, again, groups, open = {}, {}, {}, {}
for d, header in ipairs(headers) do
  local digest, size = digests[d], #ARGV[FIRST + d * 2 - 1]
  if seen[d] then
    outcomes[d] = sub(seen[d], 7)
  elseif here[digest] then
    again[d] = here[digest]
  else
    here[digest] = d
    local kind = sub(header, 33, HEADER)
    local group = open[kind]
    if group and not group.sealed and #group.members < MOST then
      group.members[#group.members + 1] = d
      group.size = group.size + size
      if size < group.least then group.least = size end
    else
      local list = lists[sunpack('>I2', header, 38) + 1]
      if group then seal(group) end
      group = {list = list, members = {d}, size = size, least = size}
      for _, a in ipairs(list) do
        local q = a.queue
        if q then
          if q.group and q.group ~= group then seal(q.group) end -- a list may name a mailbox twice
          q.group = group
        end
      end
      groups[#groups + 1] = group
      if byte(header, 37) % 2 == 1 or #header > HEADER or list.twice then
        seal(group)
      else
        open[kind] = group
      end
    end
  end
end
for _, group in ipairs(groups) do seal(group) end
for d, first in pairs(again) do outcomes[d] = outcomes[first] end

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
        elsewhere[#elsewhere + 1] = q.node .. q.id
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
local last = #headers
outcomes[last + 1] = stored
outcomes[last + 2] = indexes
outcomes[last + 3] = table.concat(before)
outcomes[last + 4] = table.concat(elsewhere)
outcomes[last + 5] = s.version
return outcomes
