#!lua flags=allow-oom
-- Issue prekeys. ARGV: epoch, low mark, then for each: suite 2, 1 for the last resort alone, addresses 24 each.
-- Answers for each address 40 or 41, or a package as a claim's answer has it, or the last resort after 'l'. Then {the
-- field of each address' pool if it can be claimed from without looking again, else zeros (6 each); pools that ran low
-- (mailbox 24, suite 2, left 4, owner 8); revocations}, and the version if anything was issued, else 0.
local s = load_state()
if not s then return OTHER_EPOCH end
local low_mark = tonumber(ARGV[2])
local identifiers = {}
for i = 3, #ARGV do
  for p = 4, #ARGV[i], 24 do identifiers[#identifiers + 1] = sub(ARGV[i], p, p + 23) end
end
local numbers, fields = {}, {}
for i, record in ipairs(hmget(ADDRESS, identifiers)) do
  numbers[i] = record and sub(record, 6, 9) or NOBODY
end
local place = 0
for i = 3, #ARGV do
  local suite = sub(ARGV[i], 1, 2)
  for _ = 4, #ARGV[i], 24 do
    place = place + 1
    fields[place] = numbers[place] .. suite
  end
end
local pools = hmget(POOL, fields)
local UNKNOWN = string.rep('\0', 6)
local LOW_BYTE = byte(LOW)

-- Return a package as it is answered, which began with LOW, and what is told of its pool: mailbox 24, suite 2, left 4,
-- owner 8.
local function run_low(package, field, low_mark)
  local queue = call('HGET', QUEUE, sub(field, 1, 4))
  return FIRST .. sub(package, 2), sub(queue, 1, 24) .. sub(field, 5, 6) .. spack('>I4', low_mark - 1) .. sub(queue, 25, 32)
end

local answers, known, lows, issued = {}, {}, {}, false
place = 0
for i = 3, #ARGV do
  local one_time = byte(ARGV[i], 3) == 0
  for _ = 4, #ARGV[i], 24 do
    place = place + 1
    local field, pool = fields[place], pools[place]
    local package = pool and one_time and sub(pool, 1, 8) == s.epoch and byte(pool, 21) == 0
      and call('LPOP', packages_of(field))
    if package then
      issued = true
      if byte(package) == LOW_BYTE then package, lows[#lows + 1] = run_low(package, field, low_mark) end
      answers[place], known[place] = package, field
    else
      local last_resort = pool and call('HGET', LAST_RESORT, field)
      local there = pool or call('HEXISTS', QUEUE, numbers[place]) == 1
      answers[place] = last_resort and 'l' .. last_resort or there and 41 or 40
      known[place] = UNKNOWN
    end
  end
end
if issued then save_state(s) end
answers[place + 1] = {table.concat(known), table.concat(lows), s.revocations}
answers[place + 2] = issued and s.version or 0 -- what others wrote is not waited for here
return answers
