"""The programs that a Redis server runs for a store, each as one indivisible step.

KEYS of every program, all with one hash tag, so that a cluster keeps them together:

    1 lock      the token of the writer whose turn it is, gone when it says nothing for a while
    2 head      hash: version, oldest, n0, n1, ... (keys in each table), format; of a commit that takes several
                steps: open (its version), p0, p1, ... (what it changes the counts by)
    3 undos     list of "version:milliseconds", the commits whose replaced values are still kept
    4 leases    sorted set of "version:reader" by when they end: the snapshots of long reads
    5, 6        hash and list of the commit being written: what it replaced, and which keys it deleted
    7, 8, ...   for each table: hash of its values, sorted set of its keys; behind them what a program forgets

A stored value is the version that wrote it, 8 bytes big-endian, then 01 and the value; after the version
nothing for a deleted key. What a commit replaced lies in its undo hash under the number of the table and
the key, as it was stored, empty for a new key: so any snapshot back to the oldest kept can follow a value
to what it was.
"""

from __future__ import annotations

from sevenfold.stores.tables import TABLES

__all__ = ["ACQUIRE", "APPLY", "FENCED", "LEASE", "RECOVERED", "RELEASE", "RESTORE", "STEAL"]

# Ten at most: the number of a table is one digit before a key in an undo hash.
_COUNTS = ", ".join(f"'p{place}'" for place in range(len(TABLES)))
FENCED = "FENCED"
"""How the refusal of a writer begins that has lost its turn."""

ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local head = redis.call('HMGET', KEYS[2], 'version', 'open')
  return {1, head[1] or '0', head[2] or ''}
end
return {0, redis.call('GET', KEYS[1]) or ''}
"""
"""ARGV: token, milliseconds. Takes the turn, or says who has it."""

STEAL = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
"""ARGV: the token of a writer whose connection is gone. Frees its turn, if it is still its."""

RELEASE = STEAL

_MINE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED the turn of this writer is over')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

RESTORE = (
    _MINE
    + """
for i = 3, #ARGV, 2 do
  local place, old = ARGV[i], ARGV[i + 1]
  local at = 7 + 2 * (string.byte(place) - 48)
  local key = string.sub(place, 2)
  if old == '' then
    redis.call('HDEL', KEYS[at], key)
    redis.call('ZREM', KEYS[at + 1], key)
  else
    redis.call('HSET', KEYS[at], key, old)
  end
end
return 1
"""
)
"""ARGV: token, milliseconds, (place, what was there)... Takes back writes of a commit that was cut off."""

RECOVERED = (
    _MINE
    + """
redis.call('UNLINK', KEYS[5], KEYS[6])
redis.call('HDEL', KEYS[2], 'open', @counts)
return 1
""".replace("@counts", _COUNTS)
)
"""ARGV: token, milliseconds. Forgets a commit that was cut off, all of whose writes were taken back."""

LEASE = """
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
return redis.call('HGET', KEYS[2], 'oldest')
"""
"""ARGV: "version:reader", milliseconds. Has the snapshot kept, or renews that; says which is the oldest."""

APPLY = (
    _MINE
    + """
local version = tonumber(ARGV[3])
if tonumber(redis.call('HGET', KEYS[2], 'version') or '0') + 1 ~= version then
  return redis.error_reply('FENCED another commit has come between')
end

local function write(place, first, last)
  local data, index = KEYS[7 + 2 * place], KEYS[8 + 2 * place]
  local prefix = string.char(48 + place)
  local keys = {}
  for i = first, last, 2 do keys[#keys + 1] = ARGV[i] end
  local olds = redis.call('HMGET', data, unpack(keys))
  local values, undo, born, gone, more = {}, {}, {}, {}, 0
  for j, key in ipairs(keys) do
    local old, new = olds[j], ARGV[first + 2 * j - 1]
    local was, is = old and #old > 8, #new > 8
    if was or is then
      values[#values + 1] = key
      values[#values + 1] = new
      undo[#undo + 1] = prefix .. key
      undo[#undo + 1] = old or ''
      if not old then
        born[#born + 1] = 0
        born[#born + 1] = key
      end
      if is and not was then more = more + 1 end
      if was and not is then
        more = more - 1
        gone[#gone + 1] = prefix .. key
      end
    end
  end
  if #values > 0 then
    redis.call('HSET', data, unpack(values))
    redis.call('HSET', KEYS[5], unpack(undo))
  end
  if #born > 0 then redis.call('ZADD', index, unpack(born)) end
  if #gone > 0 then redis.call('RPUSH', KEYS[6], unpack(gone)) end
  if more ~= 0 then redis.call('HINCRBY', KEYS[2], 'p' .. place, more) end
end

local drops = tonumber(ARGV[6])
local at = 7 + drops
while at <= #ARGV do
  local place, n = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local stop = at + 2 + 2 * n
  for first = at + 2, stop - 1, 2000 do
    write(place, first, math.min(first + 1999, stop - 1))
  end
  at = stop
end
if ARGV[4] == '0' then
  redis.call('HSET', KEYS[2], 'open', version)
  return {}
end

redis.call('HSET', KEYS[2], 'version', version)
for place = 0, @last do
  local more = redis.call('HGET', KEYS[2], 'p' .. place)
  if more then redis.call('HINCRBY', KEYS[2], 'n' .. place, more) end
end
redis.call('HDEL', KEYS[2], 'open', @counts)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('RPUSH', KEYS[3], version .. ':' .. string.format('%.0f', now))

-- What was replaced longest ago, unless a lease still needs it.
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local least = version
for _, lease in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  least = math.min(least, tonumber(string.match(lease, '^%d+')))
end
for i = 1, drops do
  local old = tonumber(ARGV[6 + i])
  local front = redis.call('LINDEX', KEYS[3], 0)
  if old > least or not front or tonumber(string.match(front, '^%d+')) ~= old then break end
  local undo, gone = KEYS[@behind + 2 * i - 1], KEYS[@behind + 2 * i]
  local header = struct.pack('>I8', old)
  for _, place in ipairs(redis.call('LRANGE', gone, 0, -1)) do
    local data = 7 + 2 * (string.byte(place) - 48)
    local key = string.sub(place, 2)
    if redis.call('HGET', KEYS[data], key) == header then
      redis.call('HDEL', KEYS[data], key)
      redis.call('ZREM', KEYS[data + 1], key)
    end
  end
  redis.call('UNLINK', undo, gone)
  redis.call('LPOP', KEYS[3])
  redis.call('HSET', KEYS[2], 'oldest', old + 1)
end
local due = {}
for _, entry in ipairs(redis.call('LRANGE', KEYS[3], 0, 7)) do
  local old, since = string.match(entry, '^(%d+):(%d+)$')
  if tonumber(since) + ARGV[5] > now then break end
  due[#due + 1] = tonumber(old)
end
redis.call('DEL', KEYS[1])
return due
""".replace("@counts", _COUNTS)
    .replace("@last", str(len(TABLES) - 1))
    .replace("@behind", str(6 + 2 * len(TABLES)))
)
"""ARGV: token, milliseconds, version, last step or not, milliseconds to keep what was replaced, how many
commits to forget and which (their undo hash and list of deleted keys are the KEYS behind those of the tables), then for each
table its number, how many keys, and key and stored value of each. With the last step all of the commit is
there at once; it says which commits may be forgotten by the next one."""
