-- Takes events out of a mailbox: a client of its user has received them, or they are taken back.
-- KEYS: the mailbox. ARGV: their ids. Answers how many were there.
local wanted, count = {}, 0
for _, id in ipairs(ARGV) do
  wanted[id] = true
end
for _, kept in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if wanted[string.sub(kept, 1, 11)] then
    count = count + redis.call('LREM', KEYS[1], 1, kept)
  end
end
return count
