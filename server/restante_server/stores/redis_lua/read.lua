#!lua flags=allow-oom
-- Read entries. ARGV: epoch, mailbox, sequence to begin after, most entries, most bytes, now, 1 to write the version, so
-- that what is read is waited for.
-- Answers for each: sequence, payload without its places.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return {} end
if ARGV[7] == '1' then save_state(s) end
local q = load_queue(m)
local after_ms, after_n = sunpack('>I6I2', ARGV[3])
local room, size, now = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local STEP = 64
local found, group_sizes = {}, sizes_memo()
local position = q.head
while position < q.tail and room > 0 do
  local fields = {}
  for p = position, math.min(position + STEP, q.tail) - 1 do fields[#fields + 1] = q.number .. spack('>I4', p) end
  position = position + #fields
  local sequences, numbers, sizes = {}, {}, {}
  for _, record in ipairs(call('HMGET', ENTRY, unpack(fields))) do
    if record then
      local ms, n, lead, bytes, flags = sunpack(ENTRY_FORMAT, record)
      local members = members_of(record, flags)
      for _, place in ipairs(members) do
        if ms > after_ms or (ms == after_ms and n + place > after_n) then
          sequences[#sequences + 1] = spack('>I6I2', ms, n + place)
          numbers[#numbers + 1] = payload_after(lead, place)
          sizes[#sizes + 1] = #members == 1 and bytes or group_sizes[lead][place + 1]
        end
      end
    end
  end
  local i = 1
  while i <= #numbers and room > 0 do
    -- So many at once as may fit: expired ones make room for others.
    local last, bytes = i - 1, 0
    while last < #numbers and last - i + 1 < room and (bytes + sizes[last + 1] <= size or bytes == 0) do
      last = last + 1
      bytes = bytes + sizes[last]
    end
    local part = {}
    for p = i, last do part[#part + 1] = numbers[p] end
    for p, record in ipairs(call('HMGET', PAYLOAD, unpack(part))) do
      if record and sunpack('>I6', record) > now then
        local bytes_of = sizes[i + p - 1]
        if bytes_of > size and #found > 0 then
          room = 0
          break
        end
        local _, fence = sunpack('>I6I4', record)
        found[#found + 1] = sequences[i + p - 1]
        found[#found + 1] = sub(record, 7, 30 + fence + bytes_of)
        room = room - 1
        size = size - bytes_of
      end
    end
    i = last + 1
  end
end
return found
