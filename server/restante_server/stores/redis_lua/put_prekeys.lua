#!lua
-- Append packages to a pool. ARGV: epoch, mailbox, suite 2, first number, most packages, most pools, low mark, 1 to
-- replace, last resort or empty, packages as a claim's answer has them. Answers 0, 1 for no mailbox, 2 for too many.
local s = load_state()
if not s then return OTHER_EPOCH end
local m = load_mailbox(ARGV[2])
if not m then return 1 end
local suite, first, low_mark = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[7])
local replace, last_resort = ARGV[8] == '1', ARGV[9]
local field = m.number .. suite
local record = call('HGET', POOL, field)
if not record and #m.suites / 2 >= tonumber(ARGV[6]) then return 2 end
local p = record and decode_pool(field, record, s.epoch)
  or {epoch = s.epoch, uploaded = 0, issued = 0, cleared = 1, gaps = '', left = 0, last_resort = 0}
local count = #ARGV - 9
local skip = math.max(0, p.uploaded + 1 - first)
local fresh = math.max(0, count - skip)
if fresh + (replace and 0 or p.left) > tonumber(ARGV[5]) then return 2 end
if replace or p.epoch ~= s.epoch then clear_pool(field, p, s.epoch) end
if fresh > 0 then
  local before = p.left > 0 and p.uploaded or p.issued
  if p.left == 0 then p.gaps = '' end
  if first + skip - 1 ~= before then p.gaps = p.gaps .. spack('>I6I6', first + skip, before) end
  begin_low(field, p.left, low_mark, FIRST)
  write('RPUSH', packages_of(field), {unpack(ARGV, 10 + skip)})
  begin_low(field, p.left + fresh, low_mark, LOW)
  p.cleared, p.uploaded = 0, first + count - 1
end
save_state(s)
if last_resort ~= '' then
  p.last_resort = 1
  call('HSET', LAST_RESORT, field, last_resort)
end
call('HSET', POOL, field, encode_pool(p))
if not record then
  m.suites = m.suites .. suite
  save_mailbox(m)
end
return 0
