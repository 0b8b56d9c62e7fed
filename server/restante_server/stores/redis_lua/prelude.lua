-- What every script begins with. KEYS are always all keys of one bucket, in the order of redis_keys.KEYS, so that a
-- script never touches what it did not declare. ARGV[1] is the epoch that the relay knows: a store of another epoch
-- (flushed, or put back) is left alone. Integers are big-endian; a sequence is a pair, 48 bits of milliseconds and 16 of
-- a counter, because Lua's numbers hold 53 bits.
local STATE, MAILBOX, QUEUE, ADDRESS, WAITING, ENTRY, PAYLOAD, REFERENCE, EXPIRY, SEEN, FORGET, POOL, LAST_RESORT,
  PREKEY, FENCE, PENDING, LEASE, SLOT, CODE = unpack(KEYS)
local call, spack, sunpack, sub, byte = redis.call, struct.pack, struct.unpack, string.sub, string.byte
local CHUNK = 4000 -- Lua's stack holds 8,000 arguments
local NOBODY = string.rep('\0', 8)
local OTHER_EPOCH = {err = 'EPOCH the store has another history'}

local function hmget(key, fields)
  local count = #fields
  if count == 0 then return {} end
  if count <= CHUNK then return call('HMGET', key, unpack(fields)) end
  local found = {}
  for first = 1, count, CHUNK do
    local last = math.min(first + CHUNK - 1, count)
    local part = call('HMGET', key, unpack(fields, first, last))
    for i = 1, last - first + 1 do found[first + i - 1] = part[i] end
  end
  return found
end

local function write(command, key, arguments)
  for first = 1, #arguments, CHUNK do
    call(command, key, unpack(arguments, first, math.min(first + CHUNK - 1, #arguments)))
  end
end

-- The bucket's counters.

local COUNTERS = '>I6I4I5I6I4I6I7'

local function load_state()
  local found = call('HMGET', STATE, 'epoch', 'counters', 'revocations')
  if not found[1] or found[1] ~= ARGV[1] then return nil end
  local s = {epoch = found[1], revocations = found[3] or '0'}
  s.version, s.queues, s.addresses, s.payloads, s.mailboxes, s.entries, s.size = sunpack(COUNTERS, found[2])
  return s
end

local function save_state(s)
  s.version = s.version + 1
  call('HSET', STATE, 'counters',
    spack(COUNTERS, s.version, s.queues, s.addresses, s.payloads, s.mailboxes, s.entries, s.size))
end

-- Queues: the part of a mailbox that deposits and acknowledgements change. Entries stand at positions from head to
-- tail - 1, some of which may be empty. How many wait through each address is counted only in queues that are long
-- (``counted``): in a short one no cap can be reached.

local QUEUE_FORMAT = '>c24c8c8I6I2I6I2I4I4I4I6I6I4I1'

local function decode_queue(number, record)
  local q = {number = number}
  q.id, q.node, q.token, q.last_ms, q.last_n, q.acknowledged_ms, q.acknowledged_n, q.head, q.tail, q.entries, q.size,
    q.large, q.invites, q.counted = sunpack(QUEUE_FORMAT, record)
  return q
end

local function encode_queue(q)
  return spack(QUEUE_FORMAT, q.id, q.node, q.token, q.last_ms, q.last_n, q.acknowledged_ms, q.acknowledged_n, q.head,
    q.tail, q.entries, q.size, q.large, q.invites, q.entries > 0 and q.counted or 0)
end

local function write_queues(queues)
  local fields = {}
  for number, q in pairs(queues) do
    fields[#fields + 1] = number
    fields[#fields + 1] = encode_queue(q)
  end
  write('HSET', QUEUE, fields)
end

-- Mailboxes: the rest of them.

local MAILBOX_FORMAT = '>c4c16c8I4c32'

local function load_mailbox(id)
  local record = call('HGET', MAILBOX, id)
  if not record then return nil end
  local m = {id = id}
  m.number, m.incarnation, m.epoch, m.addresses, m.key = sunpack(MAILBOX_FORMAT, record)
  m.suites = sub(record, 65) -- two bytes each
  return m
end

local function save_mailbox(m)
  call('HSET', MAILBOX, m.id, spack(MAILBOX_FORMAT, m.number, m.incarnation, m.epoch, m.addresses, m.key) .. m.suites)
end

local function load_queue(m)
  return decode_queue(m.number, call('HGET', QUEUE, m.number))
end

-- Entries: what a mailbox has of one group, which is deposits of one call to the same addresses: their payloads are
-- numbered one after another from the *lead* on, and so are their sequences in each mailbox. Fields: sequence of the
-- lead, lead, bytes of the bodies that wait, 1 for large + 2 for through an invite + 4 for scattered, address; then which
-- members wait: the first and how many, or if they are scattered the place of each, one byte each. Their field: queue,
-- position. A group's record in ``reference``: how many mailboxes wait for it, and the bytes of each member.

local ENTRY_FORMAT = '>I6I2c6I4I1c5'
local MEMBERS_AT = 25
local SCATTERED = 4

local function positions_memo()
  return setmetatable({}, {__index = function(memo, position)
    local packed = spack('>I4', position)
    rawset(memo, position, packed)
    return packed
  end})
end

-- Return the places of the members that wait, ascending.
local function members_of(record, flags)
  local members = {}
  if flags >= SCATTERED then
    for i = MEMBERS_AT, #record do members[#members + 1] = byte(record, i) end
  else
    local first, count = byte(record, MEMBERS_AT, MEMBERS_AT + 1)
    for i = 1, count do members[i] = first + i - 1 end
  end
  return members
end

local function count_of(record, flags)
  if flags >= SCATTERED then return #record - MEMBERS_AT + 1 end
  return byte(record, MEMBERS_AT + 1)
end

local function last_of(record, flags)
  if flags >= SCATTERED then return byte(record, #record) end
  local first, count = byte(record, MEMBERS_AT, MEMBERS_AT + 1)
  return first + count - 1
end

-- Return the record for what is left of an entry: these members, ascending, of so many bytes.
local function entry_with(record, members, size, flags)
  local first, count = members[1], #members
  if members[count] - first == count - 1 then
    return sub(record, 1, 14) .. spack('>I4I1', size, flags % SCATTERED) .. sub(record, 20, 24) .. string.char(first, count)
  end
  return sub(record, 1, 14) .. spack('>I4I1', size, flags % SCATTERED + SCATTERED) .. sub(record, 20, 24)
    .. string.char(unpack(members))
end

-- Return the bytes of each member of a group by its lead; it is asked for once.
local function sizes_memo()
  return setmetatable({}, {__index = function(memo, lead)
    local sizes, record = {}, call('HGET', REFERENCE, lead)
    for i = 5, #record, 4 do sizes[#sizes + 1] = sunpack('>I4', record, i) end
    rawset(memo, lead, sizes)
    return sizes
  end})
end

local function payload_after(lead, place)
  return place == 0 and lead or spack('>I6', sunpack('>I6', lead) + place)
end

-- What removals of entries add up to; ``finish`` writes it.
local function new_removal(s)
  return {state = s, entries = {}, references = {}, waiting = {}}
end

-- Take so many members, of so many bytes together, out of all counts.
local function uncount(r, q, count, size, flags, address)
  if q.counted == 1 then r.waiting[address] = (r.waiting[address] or 0) + count end
  q.entries = q.entries - count
  q.size = q.size - size
  if flags % 2 == 1 then q.large = q.large - size end
  if flags % SCATTERED >= 2 then q.invites = q.invites - count end
  r.state.entries = r.state.entries - count
  r.state.size = r.state.size - size
end

local function remove_entry(r, q, field, record)
  local _, _, lead, size, flags, address = sunpack(ENTRY_FORMAT, record)
  r.entries[#r.entries + 1] = field
  r.references[lead] = (r.references[lead] or 0) + 1
  uncount(r, q, count_of(record, flags), size, flags, address)
end

-- Subtract from the numbers of a hash; those that come to nothing are deleted.
local function subtract(key, counts)
  local fields, set, gone = {}, {}, {}
  for field in pairs(counts) do fields[#fields + 1] = field end
  local found = hmget(key, fields)
  for i, field in ipairs(fields) do
    local left = (tonumber(found[i]) or 0) - counts[field]
    if left > 0 then
      set[#set + 1] = field
      set[#set + 1] = left
    else
      gone[#gone + 1] = field
    end
  end
  write('HDEL', key, gone)
  write('HSET', key, set)
end

-- Have fewer mailboxes wait for groups; what nobody waits for is deleted.
local function release(counts)
  local leads, set, gone, payloads, members = {}, {}, {}, {}, {}
  for lead in pairs(counts) do leads[#leads + 1] = lead end
  for i, record in ipairs(hmget(REFERENCE, leads)) do
    local lead = leads[i]
    local left = sunpack('>I4', record) - counts[lead]
    if left > 0 then
      set[#set + 1] = lead
      set[#set + 1] = spack('>I4', left) .. sub(record, 5)
    else
      gone[#gone + 1] = lead
      members[#members + 1] = 'p' .. lead
      for place = 0, #record / 4 - 2 do payloads[#payloads + 1] = payload_after(lead, place) end
    end
  end
  write('HDEL', REFERENCE, gone)
  write('HSET', REFERENCE, set)
  write('HDEL', PAYLOAD, payloads)
  write('ZREM', EXPIRY, members)
end

local function finish(r)
  write('HDEL', ENTRY, r.entries)
  subtract(WAITING, r.waiting)
  release(r.references)
end

-- Prekey pools. The packages are in a list beside the hash, as a claim's answer has them: the MessagePack of 0, number,
-- package. So a claim only pops. What was issued follows from the list's head: its number's predecessor, which is the
-- number before unless ``gaps`` names another (number 6, predecessor 6); of a list that was cleared the record says it.
-- The package with which a pool runs low begins with LOW instead of FIRST: nobody has to count what is left.

local POOL_FORMAT = '>c8I6I6I1I1'
local FIRST, LOW = '\147', '\193'

local function packages_of(field)
  return PREKEY .. ':' .. field
end

local NUMBER_BYTES = {[0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8}

local function number_of(answer)
  local first = byte(answer, 3)
  local size = NUMBER_BYTES[first]
  return size and sunpack('>I' .. size, sub(answer, 4, 3 + size)) or first
end

local function decode_pool(field, record, epoch)
  local p = {left = 0}
  p.epoch, p.uploaded, p.issued, p.cleared, p.last_resort = sunpack(POOL_FORMAT, record)
  p.gaps = sub(record, 23)
  if p.cleared == 1 then return p end
  local key = packages_of(field)
  local left = call('LLEN', key)
  if left == 0 then
    p.issued = p.uploaded
    return p
  end
  local head = number_of(call('LINDEX', key, 0))
  p.issued = head - 1
  for i = 1, #p.gaps, 12 do
    local number, before = sunpack('>I6I6', sub(p.gaps, i, i + 11))
    if number == head then p.issued = before end
  end
  if p.epoch == epoch then p.left = left end
  return p
end

local function encode_pool(p)
  return spack(POOL_FORMAT, p.epoch, p.uploaded, p.issued, p.cleared, p.last_resort) .. p.gaps
end

-- Have the package with which a pool of so many runs low begin like this.
local function begin_low(field, left, low_mark, first)
  if left >= low_mark then
    local key, place = packages_of(field), left - low_mark
    call('LSET', key, place, first .. sub(call('LINDEX', key, place), 2))
  end
end

-- Drop a pool's packages, of whatever epoch.
local function clear_pool(field, p, epoch)
  call('DEL', packages_of(field))
  p.cleared, p.gaps, p.left, p.epoch = 1, '', 0, epoch
end

-- Return {suite, uploaded, issued, left, last resort} of each pool, flat and in one string.
local function pools_of(m, epoch)
  local out = {}
  for i = 1, #m.suites, 2 do
    local suite = sub(m.suites, i, i + 1)
    local field = m.number .. suite
    local p = decode_pool(field, call('HGET', POOL, field), epoch)
    out[#out + 1] = suite .. spack('>I6I6I4I1', p.uploaded, p.issued, p.left, p.last_resort)
  end
  return table.concat(out)
end
