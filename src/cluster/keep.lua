-- Keeps an event for a user, once under a key, and publishes it: all of that, or nothing.
-- KEYS: the mailbox; the key; with the streams adapter the stream.
-- ARGV: 1 id; 2 what tells the event from others under its key, or nothing; 3 milliseconds for which the key is known;
--   4 what stands behind the id in the mailbox, or nothing: 13 digits of its end, 11 characters of its conflate key, the event;
--   5 its end; 6 now; 7 how many events a mailbox has at the most; 8 `new`, or `again` if it may have been here before;
--   9 and on: the command that publishes it.
-- Answers {0, id}: done; {1, id}, {2, id}: the key is known for this event, or for another; {3, id}: the mailbox is full.
local mailbox, key = KEYS[1], KEYS[2]
local id, print, entry, now, most = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[6]), tonumber(ARGV[7])
local none = '-----------'

if print ~= '' then
  local known = redis.call('GET', key)
  if known then
    local first = string.sub(known, 1, 11)
    if first == id then
      return {0, id}
    end
    return {string.sub(known, 12) == print and 1 or 2, first}
  end
end

local code = 0
local left = tonumber(ARGV[5]) - now
if entry ~= '' and left > 0 then
  local function is_over(kept)
    return tonumber(string.sub(kept, 12, 24)) <= now
  end
  local first = redis.call('LINDEX', mailbox, 0)
  while first and is_over(first) do
    redis.call('LPOP', mailbox)
    first = redis.call('LINDEX', mailbox, 0)
  end
  local length = redis.call('LLEN', mailbox)
  local conflate = string.sub(entry, 14, 24)
  if ARGV[8] == 'again' or conflate ~= none or length >= most then
    for _, kept in ipairs(redis.call('LRANGE', mailbox, 0, -1)) do
      if string.sub(kept, 1, 11) == id then
        return {0, id}
      end
      if is_over(kept) or (conflate ~= none and string.sub(kept, 25, 35) == conflate) then
        redis.call('LREM', mailbox, 1, kept)
        length = length - 1
      end
    end
  end
  if length >= most then
    code = 3
  else
    redis.call('RPUSH', mailbox, id .. entry)
    if redis.call('PTTL', mailbox) < left then
      redis.call('PEXPIRE', mailbox, left)
    end
  end
end
if print ~= '' then
  redis.call('SET', key, id .. print, 'PX', ARGV[3])
end
if ARGV[9] then
  redis.call(unpack(ARGV, 9))
end
return {code, id}
