-- One change of a service's keys, done wholly or not at all: Redis runs nothing else meanwhile.
--
-- KEYS: bytes that the service uses; the values of the bucket (hash); its keys in their order (sorted set).
-- ARGV: bytes that the service may use; what a key costs beside its bytes; what to do, and with what:
--   put   KEY HAS VALUE …   gives keys values, or takes out those where HAS is 0
--   add   KEY DELTA         adds to a number
--   swap  KEY HAS EXPECTED VALUE MOST   tells what else is there, where that has not more than MOST bytes
-- Answers with a word, and text beside it: numbers of Lua would lose digits.
local used_key, values, names = KEYS[1], KEYS[2], KEYS[3]
local quota, entry_cost = tonumber(ARGV[1]), tonumber(ARGV[2])

local function put(change)
  local used, freed, taken = tonumber(redis.call('GET', used_key) or '0'), 0, 0
  for _, entry in ipairs(change) do
    if redis.call('HEXISTS', values, entry.key) == 1 then
      freed = freed + #entry.key + redis.call('HSTRLEN', values, entry.key) + entry_cost
    end
    if entry.value then
      taken = taken + #entry.key + #entry.value + entry_cost
    end
  end
  local now = math.max(used + taken - freed, 0)
  if now > quota and taken > freed then
    return {'full', string.format('%.0f', now)}
  end
  for _, entry in ipairs(change) do
    if entry.value then
      redis.call('HSET', values, entry.key, entry.value)
      redis.call('ZADD', names, 0, entry.key)
    else
      redis.call('HDEL', values, entry.key)
      redis.call('ZREM', names, entry.key)
    end
  end
  redis.call('SET', used_key, string.format('%.0f', now))
  return {'done'}
end

local word, key = ARGV[3], ARGV[4]
if word == 'put' then
  local change = {}
  for i = 4, #ARGV, 3 do
    change[#change + 1] = {key = ARGV[i], value = ARGV[i + 1] == '1' and ARGV[i + 2]}
  end
  return put(change)
elseif word == 'add' then
  local before = redis.call('HGET', values, key)
  local sum = redis.pcall('HINCRBY', values, key, ARGV[5])
  if type(sum) == 'table' and sum.err then
    if string.find(sum.err, 'overflow', 1, true) then
      return {'overflow', before or '0'}
    elseif string.find(sum.err, 'not an integer', 1, true) then
      return {'no-number'}
    end
    return sum
  end
  local after = redis.call('HGET', values, key)
  -- Back to what it was, so that the quota is asked first.
  if before then
    redis.call('HSET', values, key, before)
  else
    redis.call('HDEL', values, key)
  end
  local outcome = put({{key = key, value = after}})
  return outcome[1] == 'done' and {'sum', after} or outcome
elseif word == 'swap' then
  local found = redis.call('HGET', values, key)
  if found ~= (ARGV[5] == '1' and ARGV[6]) then
    if found and #found > tonumber(ARGV[8]) then
      return {'differs-much'}
    end
    return found and {'differs', found} or {'differs'}
  end
  return put({{key = key, value = ARGV[7]}})
end
return redis.error_reply('ERR no such change')
