/**
 * Permits in Redis: their leases, and the queue of the processes that wait, with the weight each one needs next.
 */
import type * as Redis from "effect/persistence/Redis"
import type { Acquired, PermitStore } from "../store/permitStore.js"
import * as Command from "./command.js"
import type { RedisInbox } from "./inbox.js"

// held: permit → end of its lease; queue: inbox → arrival; alive: inbox → end of its place; needs: inbox → its head's weight
const prelude = `${Command.prelude}local held, queue, alive, needs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function leave(inbox)
  redis.call('ZREM', queue, inbox)
  redis.call('ZREM', alive, inbox)
  redis.call('HDEL', needs, inbox)
end
local function clean(lease)
  redis.call('ZREMRANGEBYSCORE', held, '-inf', num(now))
  for _, inbox in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', num(now))) do leave(inbox) end
  -- A clock that stepped back must not keep a permit for longer than its lease.
  for _, zset in ipairs({held, alive}) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', zset, '(' .. num(now + lease), '+inf')) do
      redis.call('ZADD', zset, num(now + lease), member)
    end
  end
end
local function keep(lease)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, math.ceil(lease / 1000) + 1000) end
end
-- Each who waits is told when what is free has come to reach it.
local function wake(free, me)
  for _, inbox in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if free <= 0 or inbox == me then return end
    local space = string.find(inbox, ' ', 1, true)
    redis.call('PUBLISH', string.sub(inbox, space + 1), string.sub(inbox, 1, space) .. 'P')
    free = free - tonumber(redis.call('HGET', needs, inbox) or 1)
  end
end
`

const acquireScript = /*#__PURE__*/ Command.script<[number, string]>(
  "acquire",
  4,
  `${prelude}
local me, lease, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
clean(lease)
local ahead = 0
for _, inbox in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
  if inbox == me then break end
  ahead = ahead + tonumber(redis.call('HGET', needs, inbox) or 1)
end
local free = limit - redis.call('ZCARD', held) - ahead
local granted, need, i = 0, 0, 4
while i <= #ARGV do
  local size = tonumber(ARGV[i])
  local missing = 0
  for j = i + 1, i + size do
    if not redis.call('ZSCORE', held, ARGV[j]) then missing = missing + 1 end
  end
  if missing > 0 and missing > free then
    need = size
    break
  end
  for j = i + 1, i + size do redis.call('ZADD', held, num(now + lease), ARGV[j]) end
  free = free - missing
  granted = granted + 1
  i = i + size + 1
end
local waited = redis.call('ZSCORE', queue, me)
if need == 0 then
  leave(me)
else
  if granted > 0 or not waited then
    -- Served in part means behind the others again.
    redis.call('ZREM', queue, me)
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
    redis.call('ZADD', queue, num(math.max(now, tonumber(last[2] or 0) + 1)), me)
  end
  redis.call('HSET', needs, me, need)
  redis.call('ZADD', alive, num(now + lease), me)
end
-- My place may have been what held the next ones back.
if waited and (need == 0 or granted > 0) then wake(limit - redis.call('ZCARD', held), me) end
keep(lease)
local poll = lease
local soonest = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
if soonest[1] then poll = math.min(poll, tonumber(soonest[2]) - now) end
local first = redis.call('ZRANGE', alive, 0, 0, 'WITHSCORES')
if first[1] and first[1] ~= me then poll = math.min(poll, tonumber(first[2]) - now) end
return {granted, num(poll)}
`
)

const renewScript = /*#__PURE__*/ Command.script<ReadonlyArray<string>>(
  "renew",
  4,
  `${prelude}
local lease, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
clean(lease)
local lost = {}
for i = 3, #ARGV do
  -- A permit that Redis forgot is held again while there is room.
  if redis.call('ZSCORE', held, ARGV[i]) or redis.call('ZCARD', held) < limit then
    redis.call('ZADD', held, num(now + lease), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
keep(lease)
return lost
`
)

const releaseScript = /*#__PURE__*/ Command.script<number>(
  "release",
  4,
  `${prelude}
local freed = 0
for i = 1, #ARGV do freed = freed + redis.call('ZREM', held, ARGV[i]) end
wake(freed, nil)
return freed
`
)

/** Makes the store. It calls `onWake` when a permit may be free. */
export const make = (redis: Redis.Redis["Service"], inbox: RedisInbox, options: {
  readonly prefix: string
  readonly name: string
  readonly leaseMillis: number
  readonly onWake: () => void
}): PermitStore => {
  const { leaseMillis } = options
  const leaseMicros = Math.ceil(leaseMillis * 1000)
  const tag = `{${options.prefix}${options.name}}`
  const keys = [`${tag}:h`, `${tag}:q`, `${tag}:a`, `${tag}:n`]
  const token = inbox.add(() => options.onWake())
  const place = `${token} ${inbox.channel}`
  const acquire = acquireScript(redis)
  const renew = renewScript(redis)
  const release = releaseScript(redis)

  return {
    leaseMillis,
    node: `${inbox.node}.${token}`,
    close: () => inbox.remove(token),
    acquire: (groups, limit) =>
      acquire(
        [...keys, place, leaseMicros, limit, ...groups.flatMap((group) => [group.length, ...group])],
        ([granted, poll]): Acquired => ({ granted, pollMillis: Number(poll) / 1000 })
      ),
    renew: (ids, limit) => renew([...keys, leaseMicros, limit, ...ids], (lost) => lost),
    release: (ids) => release([...keys, ...ids], Command.ignore)
  }
}
