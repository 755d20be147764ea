"""What changes together in Redis, as Lua scripts: each runs whole, and nothing runs beside it."""

# Of the beginning of each script that writes for a person. marks: tombstones, with commas between.
_IS_FORGOTTEN = """
local function is_forgotten(p, marks)
  for mark in string.gmatch(marks, '[^,]+') do
    if redis.call('HEXISTS', p .. 'tombstones', mark) == 1 then return true end
  end
  return false
end
"""

ADD_EVENTS = f"""{_IS_FORGOTTEN}
local p, out = ARGV[1], {{}}
for i = 2, #ARGV, 7 do
  local id, user, item, kind, time, text, marks = unpack(ARGV, i, i + 6)
  if is_forgotten(p, marks) then
    out[#out + 1] = 'forgotten'
  elseif redis.call('HEXISTS', p .. 'event_ids', id) == 1 then
    out[#out + 1] = 'duplicate'
  else
    local seq = string.format('%016d', redis.call('INCR', p .. 'event_seq'))
    redis.call('HSET', p .. 'event_ids', id, seq)
    redis.call('HSET', p .. 'events', seq, text)
    redis.call('ZADD', p .. 'event_order', 0, seq)
    redis.call('ZADD', p .. 'user:' .. user, time, seq)
    redis.call('HINCRBY', p .. 'item_counts', cjson.encode({{item, kind}}), 1)
    out[#out + 1] = 'accepted'
  end
end
return out
"""

# The events in one text: the client reads each element of an array on its own, and takes its time.
USER_STATE = f"""{_IS_FORGOTTEN}
local p, user, marks, limit = unpack(ARGV)
local seqs = redis.call('ZREVRANGE', p .. 'user:' .. user, 0, limit - 1)
local events = {{}}
if #seqs > 0 then events = redis.call('HMGET', p .. 'events', unpack(seqs)) end
return {{is_forgotten(p, marks) and 1 or 0, '[' .. table.concat(events, ',') .. ']'}}
"""

FORGET = """
local p, user, tombstone, time = unpack(ARGV)
local seqs = redis.call('ZRANGE', p .. 'user:' .. user, 0, -1)
for _, seq in ipairs(seqs) do
  local event = cjson.decode(redis.call('HGET', p .. 'events', seq))
  redis.call('HDEL', p .. 'events', seq)
  redis.call('ZREM', p .. 'event_order', seq)
  redis.call('HDEL', p .. 'event_ids', event.event_id)
  redis.call('HINCRBY', p .. 'item_counts', cjson.encode({event.item_id, event.event}), -1)
end
for _, request in ipairs(redis.call('ZRANGE', p .. 'user_exposures:' .. user, 0, -1)) do
  redis.call('HDEL', p .. 'exposures', request)
  redis.call('ZREM', p .. 'exposure_order', request)
end
redis.call('DEL', p .. 'user:' .. user, p .. 'user_exposures:' .. user)
redis.call('HDEL', p .. 'users', user)
redis.call('HSET', p .. 'tombstones', tombstone, time)
return #seqs
"""

PUT_USER = f"""{_IS_FORGOTTEN}
local p, user, text, marks = unpack(ARGV)
if is_forgotten(p, marks) then return 0 end
redis.call('HSET', p .. 'users', user, text)
return 1
"""

ADD_EXPOSURES = f"""{_IS_FORGOTTEN}
local p = ARGV[1]
for i = 2, #ARGV, 5 do
  local id, user, time, text, marks = unpack(ARGV, i, i + 4)
  if not is_forgotten(p, marks) then
    redis.call('HSET', p .. 'exposures', id, text)
    redis.call('ZADD', p .. 'exposure_order', time, id)
    redis.call('ZADD', p .. 'user_exposures:' .. user, time, id)
  end
end
return 0
"""

PUT_ITEMS = """
local p, withdrawn = ARGV[1], {}
for i = 2, #ARGV, 2 do
  local old = redis.call('HGET', p .. 'items', ARGV[i])
  if old and cjson.decode(old).is_withdrawn and not cjson.decode(ARGV[i + 1]).is_withdrawn then
    withdrawn[#withdrawn + 1] = ARGV[i]
  end
end
if #withdrawn > 0 then return withdrawn end
for i = 2, #ARGV, 2 do
  local seq = redis.call('INCR', p .. 'item_seq')
  redis.call('HSET', p .. 'items', ARGV[i], ARGV[i + 1])
  redis.call('ZADD', p .. 'item_order', seq, ARGV[i])
end
return withdrawn
"""
