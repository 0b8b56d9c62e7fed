#!lua flags=allow-oom
-- Look at a bucket before the first call over a new connection. ARGV: (the epoch, unused), the server's run id, its
-- replication id, the one before, the highest version that this node knows, an epoch to take. A bucket that is new, or
-- that another run of the server wrote and that was not handed over by replication, or that is behind what a node knows,
-- takes a new epoch. Answers the epoch.
local found = call('HMGET', STATE, 'epoch', 'counters', 'run', 'replication')
local epoch = found[1]
local version = 0
local counters
if found[2] then
  counters = found[2]
  version = sunpack('>I6', counters)
else
  epoch = false
  counters = spack(COUNTERS, 0, 1, 1, 1, 0, 0, 0)
end
local same = found[3] == ARGV[2] or (found[4] and found[4] == ARGV[4])
if not epoch or not same or version < tonumber(ARGV[5]) then
  epoch = ARGV[6]
  if version < tonumber(ARGV[5]) then counters = spack('>I6', tonumber(ARGV[5])) .. sub(counters, 7) end
end
call('HSET', STATE, 'epoch', epoch, 'counters', counters, 'run', ARGV[2], 'replication', ARGV[3])
return epoch
