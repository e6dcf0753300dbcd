-- The values of keys at one moment; how many bytes they are where those are too many for one call, looked at before they are sent.
--
-- KEYS: the values of the bucket (hash). ARGV: bytes that are the most; the keys.
local bytes, keys = 0, {}
for i = 2, #ARGV do
  keys[i - 1] = ARGV[i]
  bytes = bytes + #ARGV[i] + redis.call('HSTRLEN', KEYS[1], ARGV[i])
end
if bytes > tonumber(ARGV[1]) then
  return bytes
end
return redis.call('HMGET', KEYS[1], unpack(keys))
