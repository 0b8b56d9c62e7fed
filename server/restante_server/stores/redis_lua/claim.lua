#!lua flags=allow-oom
-- Issue prekeys. ARGV: epoch, low mark, then for each: suite 2, 1 for the last resort alone, addresses
-- 24 each.
-- Answers for each: strings (code 1, number 6, package); then pools that ran low (mailbox 24, suite 2, left 4, owner 8),
-- and the version.
local s = load_state()
if not s then return OTHER_EPOCH end
local low_mark = tonumber(ARGV[2])
local GONE, EMPTY = 40, 41
local identifiers, places = {}, {}
for i = 3, #ARGV do
  for p = 4, #ARGV[i], 24 do
    local id = sub(ARGV[i], p, p + 23)
    if not places[id] then
      identifiers[#identifiers + 1] = id
      places[id] = #identifiers
    end
  end
end
local numbers = {}
local records = hmget(ADDRESS, identifiers)
for i, record in ipairs(records) do
  numbers[i] = record and sub(record, 6, 9) or NOBODY
end
local queues = hmget(QUEUE, numbers)
local pool_fields, pools = {}, {}
for i = 3, #ARGV do
  local suite = sub(ARGV[i], 1, 2)
  for p = 4, #ARGV[i], 24 do
    local place = places[sub(ARGV[i], p, p + 23)]
    if queues[place] then
      local field = numbers[place] .. suite
      if pools[field] == nil then
        pools[field] = false
        pool_fields[#pool_fields + 1] = field
      end
    end
  end
end
for i, record in ipairs(hmget(POOL, pool_fields)) do
  if record then pools[pool_fields[i]] = decode_pool(record, s.epoch) end
end
-- Give each claim its package's place.
local taken, wanted, changed, lows = {}, {}, {}, {}
for i = 3, #ARGV do
  local suite, one_time = sub(ARGV[i], 1, 2), byte(ARGV[i], 3) == 0
  for p = 4, #ARGV[i], 24 do
    local place = places[sub(ARGV[i], p, p + 23)]
    local field = queues[place] and numbers[place] .. suite
    local pool = field and pools[field]
    local claim = {}
    wanted[#wanted + 1] = claim
    if not field then
      claim.code = GONE
    elseif not pool then
      claim.code = EMPTY
    elseif one_time and pool.left > 0 then
      taken[#taken + 1] = field .. spack('>I4', pool.head)
      claim.taken, claim.pool = #taken, pool
      pool.head = pool.head + 1
      pool.left = pool.left - 1
      changed[field] = pool
      if pool.left == low_mark - 1 then
        local q = queues[place]
        lows[#lows + 1] = sub(q, 1, 24) .. suite .. spack('>I4', pool.left) .. sub(q, 25, 32)
      end
    elseif pool.last_resort == 1 then
      claim.last_resort = field
    else
      claim.code = EMPTY
    end
  end
end
local packages = hmget(PREKEY, taken)
local answers = {}
for i, claim in ipairs(wanted) do
  if claim.taken then
    local package = packages[claim.taken]
    claim.pool.issued = sunpack('>I6', package)
    answers[i] = '\0' .. package
  elseif claim.last_resort then
    answers[i] = '\0\0\0\0\0\0\0' .. call('HGET', LAST_RESORT, claim.last_resort)
  else
    answers[i] = spack('>I1I6', claim.code, 0)
  end
end
if #taken > 0 then
  write('HDEL', PREKEY, taken)
  local fields = {}
  for field, pool in pairs(changed) do
    fields[#fields + 1] = field
    fields[#fields + 1] = encode_pool(pool)
  end
  write('HSET', POOL, fields)
  save_state(s)
end
answers[#answers + 1] = table.concat(lows)
answers[#answers + 1] = s.version
return answers
