/**
 * Permits in Redis: their weights and leases, the queue of the processes that wait, with the weight each one needs next, and
 * the penalty. The schedulers of a tag have one hash tag.
 */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Inbox from "../shared/inbox.js"
import { longestLease, named } from "../store/bounds.js"
import type { Acquired, Held, PermitStore, PermitStoreOptions } from "../store/permitStore.js"
import type { StoreError } from "../store/storeError.js"
import * as Orders from "./orders.js"

/** The most orders of one command: a script must not hold up the server. */
const mostOrders = 32

/**
 * The most inboxes that one script looks at to find its places, and that it wakes, but for the first of each order. Those behind
 * are woken by those in front.
 */
const mostInboxes = 1000
const mostWoken = 250

/** The most permits that expire, or whose end is put right, in one script: the next one goes on. */
const mostPermits = 500

/** The most that one script is given, and the most permits that one order renews or returns. */
const mostWords = 1024
const mostRenewed = 256

// held: permit → end of its lease; queue: inbox → arrival; alive: inbox → end of its place
// sizes: permit → "weight lease", inbox → "weight of its head lease", '' → the weight of all permits
// pause: when the penalty was counted, and what was left of it then
const lua = `
-- How many inboxes this script may still look at, how many it may wake, and how many ends it may note.
local looks, wakes, ends = ${mostInboxes}, ${mostWoken}, ${mostPermits}
-- Where Redis has no memory left, it refuses what grows, unless the script has written before: a permit needs a few bytes.
local function begin()
  redis.call('HDEL', sizes, '~')
end
local function size(member)
  local stored = redis.call('HGET', sizes, member)
  if not stored then return 0, 0 end
  local weight, lease = string.match(stored, '(%S+) (%S+)')
  return tonumber(weight), math.min(tonumber(lease), ${longestLease})
end
-- What is left of a permit that is not held is in no sum.
local function counted(permit)
  if not redis.call('ZSCORE', held, permit) then return 0, 0 end
  return size(permit)
end
local function put(permit, weight, lease)
  local before = counted(permit)
  redis.call('ZADD', held, num(now + lease), permit)
  redis.call('HSET', sizes, permit, num(weight) .. ' ' .. num(lease))
  if weight ~= before then redis.call('HINCRBY', sizes, '', num(weight - before)) end
end
local function drop(permit)
  local before = counted(permit)
  redis.call('ZREM', held, permit)
  if redis.call('HDEL', sizes, permit) == 1 and before > 0 then redis.call('HINCRBY', sizes, '', num(-before)) end
  return before
end
local function total()
  if redis.call('ZCARD', held) > 0 then return tonumber(redis.call('HGET', sizes, '') or 0) end
  redis.call('HDEL', sizes, '')
  return 0
end
local function leave(inbox)
  redis.call('ZREM', queue, inbox)
  redis.call('ZREM', alive, inbox)
  redis.call('HDEL', sizes, inbox)
end
local function clean()
  begin()
  local function expired(zset)
    local some = redis.call('ZRANGEBYSCORE', zset, '-inf', num(now), 'LIMIT', 0, ends)
    ends = ends - #some
    return ipairs(some)
  end
  for _, permit in expired(held) do drop(permit) end
  for _, inbox in expired(alive) do leave(inbox) end
  -- A place whose end was lost, as where Redis evicts one key of them, must not hold up the others for ever.
  if ends > 0 and redis.call('ZCARD', queue) > redis.call('ZCARD', alive) then
    local some = redis.call('ZRANGE', queue, 0, ends - 1)
    ends = ends - #some
    for _, inbox in ipairs(some) do
      if not redis.call('ZSCORE', alive, inbox) then leave(inbox) end
    end
  end
  -- A clock that stepped back must not keep a permit for longer than its lease. The last one to end shows it.
  for _, zset in ipairs({held, alive}) do
    local last = redis.call('ZRANGE', zset, -1, -1, 'WITHSCORES')
    local _, lease = size(last[1] or '-')
    if last[1] and tonumber(last[2]) > now + lease then
      local late = redis.call('ZREVRANGEBYSCORE', zset, '+inf', '(' .. num(now), 'WITHSCORES', 'LIMIT', 0, ends)
      ends = ends - #late / 2
      for i = 1, #late, 2 do
        local _, lease = size(late[i])
        if tonumber(late[i + 1]) > now + lease then redis.call('ZADD', zset, num(now + lease), late[i]) end
      end
    end
  end
end
-- A shorter lease than that of another must not end the key.
local function keep(lease)
  local millis = life(lease)
  for _, key in ipairs({held, queue, alive, sizes}) do
    if redis.call('PTTL', key) < millis then redis.call('PEXPIRE', key, millis) end
  end
end
local function tell(inbox)
  local space = string.find(inbox, ' ', 1, true)
  redis.call('PUBLISH', string.sub(inbox, space + 1), string.sub(inbox, 1, space) .. 'P')
end
-- What is left of the free weight for me, once those ahead of me have theirs. They hear of it if they are to be told.
local function pass(free, me, told, most)
  most = math.max(1, math.min(told and wakes or looks, most or math.huge))
  for first = 0, most - 1, 100 do
    local last = math.min(first + 99, most - 1)
    local some = redis.call('ZRANGE', queue, first, last)
    for _, inbox in ipairs(some) do
      if free <= 0 or inbox == me then return free end
      if told then
        tell(inbox)
        wakes = wakes - 1
      else
        looks = looks - 1
      end
      -- In brackets: the weight alone.
      free = free - math.max(1, (size(inbox)))
    end
    if #some <= last - first then return free end
  end
  return 0
end
local function setPenalty(left)
  redis.call('SET', pause, num(now) .. ' ' .. num(left), 'PX', life(left))
end
-- The rest of the penalty. A clock that stepped back prolongs it by its own length at most.
local function penalty()
  local stored = redis.call('GET', pause)
  if not stored then return 0 end
  local since, left = string.match(stored, '(%S+) (%S+)')
  since, left = tonumber(since), tonumber(left)
  if since > now then setPenalty(left) end
  return math.max(0, left - math.max(0, now - since))
end
function orders.acquire()
  local me, lease, limit = args[1], tonumber(args[2]), tonumber(args[3])
  clean()
  local left = penalty()
  if left > 0 then
    -- What a command that was lost has taken is nobody's.
    for i = 4, #args, 2 do drop(args[i]) end
    leave(me)
    return {0, num(lease), num(left)}
  end
  local free = pass(limit - total(), me, false)
  local granted, need = 0, 0
  for i = 4, #args, 2 do
    local weight = tonumber(args[i + 1])
    local missing = redis.call('ZSCORE', held, args[i]) and 0 or weight
    if missing > 0 and missing > free then
      need = weight
      break
    end
    put(args[i], weight, lease)
    free = free - missing
    granted = granted + 1
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
    redis.call('HSET', sizes, me, num(need) .. ' ' .. num(lease))
    redis.call('ZADD', alive, num(now + lease), me)
  end
  -- My place may have been what held the next ones back.
  if waited and (need == 0 or granted > 0) then pass(limit - total(), me, true, 100) end
  keep(lease)
  local poll = lease
  local soonest = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
  if soonest[1] then poll = math.min(poll, tonumber(soonest[2]) - now) end
  local first = redis.call('ZRANGE', alive, 0, 0, 'WITHSCORES')
  if first[1] and first[1] ~= me then poll = math.min(poll, tonumber(first[2]) - now) end
  return {granted, num(math.max(0, poll)), '0'}
end
function orders.renew()
  local lease, limit = tonumber(args[1]), tonumber(args[2])
  clean()
  local lost, free = {}, limit - total()
  for i = 3, #args, 2 do
    local permit, weight = args[i], tonumber(args[i + 1])
    if redis.call('ZSCORE', held, permit) then
      -- The command that returned a part of it may have been lost; one that is on its way twice takes nothing back.
      local stored = size(permit)
      put(permit, stored > 0 and math.min(weight, stored) or weight, lease)
    elseif weight <= free then
      -- A permit that Redis forgot is held again while there is room.
      put(permit, weight, lease)
      free = free - weight
    else
      lost[#lost + 1] = permit
    end
  end
  keep(lease)
  return lost
end
function orders.release()
  begin()
  local freed = 0
  for i = 1, #args, 2 do
    local rest = tonumber(args[i + 1])
    local before, lease = counted(args[i])
    if rest == 0 then
      freed = freed + drop(args[i])
    elseif rest < before then
      redis.call('HSET', sizes, args[i], num(rest) .. ' ' .. num(lease))
      redis.call('HINCRBY', sizes, '', num(rest - before))
      freed = freed + before - rest
    end
  end
  total()
  pass(freed, nil, true)
  return freed
end
function orders.penalize()
  local micros = tonumber(args[1])
  if micros <= penalty() then return 0 end
  begin()
  setPenalty(micros)
  -- They learn of it when they ask.
  pass(math.huge, nil, true)
  return 1
end
`

/** Sends the orders of all schedulers of a process. */
export const kind: Orders.Kind = /*#__PURE__*/ Orders.kind({
  keys: ["held", "queue", "alive", "sizes", "pause"],
  most: mostOrders,
  mostWeight: mostWords,
  lua
})

const words = ({ id, weight }: Held) => [id, weight]

const inParts = <A>(
  permits: ReadonlyArray<Held>,
  f: (some: ReadonlyArray<Held>) => Effect.Effect<A, StoreError>
): Effect.Effect<Array<A>, StoreError> => {
  const parts: Array<Effect.Effect<A, StoreError>> = []
  for (let i = 0; i < permits.length; i += mostRenewed) parts.push(f(permits.slice(i, i + mostRenewed)))
  return Effect.all(parts, { concurrency: "unbounded" })
}

/** Makes the store of one scheduler. */
export const make = (orders: Orders.Orders, inbox: Inbox.Inbox, options: PermitStoreOptions): PermitStore => {
  const { key, leaseMillis } = options
  const leaseMicros = Math.ceil(leaseMillis * 1000)
  const end = key === undefined ? "" : named(":", key)
  const keys = ["h", "q", "a", "n", "p"].map((kind) => `{${options.prefix}${options.name}}:${kind}${end}`)
  const { close, owner } = Inbox.open(inbox, () => options.onWake())
  const place = Inbox.addressOf(inbox, owner)

  // The casts are sound: the script returns replies of these types.
  return {
    leaseMillis,
    node: owner,
    close,
    acquire: (groups, limit) =>
      orders.send(
        "acquire",
        keys,
        [place, leaseMicros, limit, ...groups.flatMap(words)],
        (reply): Acquired => {
          const [granted, poll, penalty] = reply as [number, string, string]
          return { granted, pollMillis: Number(poll) / 1000, penaltyMillis: Number(penalty) / 1000 }
        }
      ),
    renew: (permits, limit) =>
      Effect.map(
        inParts(permits, (some) =>
          orders.send(
            "renew",
            keys,
            [leaseMicros, limit, ...some.flatMap(words)],
            (lost) => lost as ReadonlyArray<string>
          )),
        (lost) => lost.flat()
      ),
    release: (permits) =>
      Effect.asVoid(
        inParts(permits, (some) => orders.send("release", keys, some.flatMap(words), constVoid))
      ),
    penalize: (millis) => orders.send("penalize", keys, [Math.ceil(millis * 1000)], constVoid)
  }
}
