/**
 * Flights in Redis: for each key a hash with the lease and the result, and a set of the waiting processes.
 *
 * Scripts use the server's time only. Every script may run twice, and every key has a time to live.
 */
import * as Effect from "effect/Effect"
import { constVoid, identity } from "effect/Function"
import * as Inbox from "../shared/inbox.js"
import { longestLease } from "../store/bounds.js"
import { joinedOf, type Party, type ReducerStore } from "../store/reducerStore.js"
import type { StoreError } from "../store/storeError.js"
import * as Orders from "./orders.js"

/** The largest result that travels with the wake-up, and what it may come to with all wake-ups. Larger ones are fetched. */
export const inlineBytes = 16 * 1024
const inlineTotal = 64 * inlineBytes

/** The longest time for which a result is kept, in microseconds: what ends later is not believed. */
const longestRetain = 1e15

/** How many processes one script wakes. */
const mostWoken = 250

/** The most orders of one command, and the most characters of their results: a script must not hold up the server. */
const mostOrders = 64
const mostCharacters = 256 * 1024

const lua = `
-- How many processes this script may still wake, how much it may send to them, and how much it has answered.
local left, room, given = ${mostWoken}, ${inlineTotal}, 0
local function wake(message, most)
  local members = redis.call('SPOP', waiting, most)
  for _, member in ipairs(members) do
    local space = string.find(member, ' ', 1, true)
    redis.call('PUBLISH', string.sub(member, space + 1), string.sub(member, 1, space) .. message)
  end
  left = left - #members
  return #members
end
-- What another client has written is bounded: a number that nobody can have been given counts as none.
local function read(text, most)
  local x = tonumber(text or 0)
  return x and x >= 0 and x <= most and x or 0
end
-- Beyond it numbers are no longer exact. In microseconds it is the year 2112.
local largest = 4503599627370496
function orders.join()
  local me, member, lease, after, seen = args[1], args[2], tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local h = redis.call('HMGET', state, 'owner', 'fence', 'until', 'lease', 'rfence', 'rexp')
  local owner, fence, till = h[1], read(h[2], largest), tonumber(h[3] or 0) or 0
  local rfence, rexp = read(h[5], largest), read(h[6], largest)
  if rfence > 0 and rexp <= now then
    redis.call('HDEL', state, 'rfence', 'rexp', 'rval')
    rfence, rexp = 0, 0
  end
  if after and rfence > 0 and rfence >= after then
    -- What is too much for one script comes with the next one.
    local size = redis.call('HSTRLEN', state, 'rval')
    if given > 0 and given + size > ${mostCharacters} then return {'F', num(rfence), '0'} end
    given = given + size
    redis.call('SREM', waiting, member)
    return {'D', num(rfence), redis.call('HGET', state, 'rval')}
  end
  local theirs = read(h[4], ${longestLease})
  local most = now + (theirs > 0 and theirs or lease)
  if till > most then
    till = most
    redis.call('HSET', state, 'until', num(till))
  end
  local keep = life(math.max(2 * lease, rexp - now))
  -- This server may be behind one that gave the fences that the caller has seen. A forged one is not believed.
  local function larger()
    return math.max(fence + 1, now, seen < now + 3600000000 and seen + 1 or 0)
  end
  if owner == me and till > 0 then
    -- It has run with this fence, so the next run gets another.
    if after and fence <= after then fence = larger() end
    redis.call('HSET', state, 'fence', num(fence), 'until', num(now + lease), 'lease', num(lease))
    redis.call('PEXPIRE', state, keep)
    return {'L', num(fence)}
  end
  if till > now then
    -- As in a renewal: who waits for a run that goes on is kept.
    redis.call('SREM', waiting, member)
    redis.call('SADD', waiting, member)
    redis.call('PEXPIRE', waiting, math.ceil(lease / 1000) + 10000)
    return {'F', num(fence), num(till - now)}
  end
  fence = larger()
  -- Whose lease ended may come back, with callers who wait for a result: the next one is kept for it.
  if owner and owner ~= '' then redis.call('HSET', state, 'taken', '1') end
  redis.call('HSET', state, 'owner', me, 'fence', num(fence), 'until', num(now + lease), 'lease', num(lease))
  redis.call('PEXPIRE', state, keep)
  redis.call('SREM', waiting, member)
  return {'L', num(fence)}
end
function orders.renew()
  local me, fence, lease = args[1], tonumber(args[2]), tonumber(args[3])
  local h = redis.call('HMGET', state, 'owner', 'fence', 'rexp')
  if h[2] and (tonumber(h[2]) ~= fence or h[1] ~= me) then return 0 end
  -- Where Redis has no memory left, it refuses what grows, unless the script has written before: a run that goes on is kept.
  redis.call('PEXPIRE', state, life(math.max(2 * lease, read(h[3], largest) - now)))
  -- With the state gone those who waited are forgotten, and will ask again: the result is kept for them.
  if not h[2] then redis.call('HSET', state, 'taken', '1') end
  redis.call('HSET', state, 'owner', me, 'fence', num(fence), 'until', num(now + lease), 'lease', num(lease))
  redis.call('PEXPIRE', state, life(math.max(2 * lease, read(h[3], largest) - now)))
  return 1
end
function orders.complete()
  local me, fence, retain, inline, payload = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), args[5]
  local h = redis.call('HMGET', state, 'owner', 'fence', 'rfence', 'taken', 'rexp')
  -- 2: more are still to be woken, by the same command again.
  local function publish()
    local count = redis.call('SCARD', waiting)
    if count == 0 then return 1 end
    local isSmall = #payload <= inline and #payload * count <= room
    if isSmall then room = room - #payload * count end
    local message = (isSmall and 'D ' or 'E ') .. num(fence) .. (isSmall and ' ' .. payload or '')
    return wake(message, math.max(0, left)) < count and 2 or 1
  end
  if tonumber(h[3] or 0) == fence then return tonumber(h[2]) == fence and publish() or 1 end
  if inline < 0 then return 1 end
  if h[2] and (tonumber(h[2]) ~= fence or h[1] ~= me) then return 0 end
  local last = now + retain
  -- With the state gone those who waited may be gone from their set as well, and will ask again.
  if h[2] and not h[4] and redis.call('SCARD', waiting) == 0 then
    -- Who waited for a former run may still come for its result. A later one is as good.
    last = h[3] and read(h[5], largest) or 0
    if last <= now then
      redis.call('DEL', state)
      return 1
    end
  end
  redis.call('HDEL', state, 'taken')
  redis.call('HSET', state, 'owner', '', 'fence', num(fence), 'until', '0',
    'rfence', num(fence), 'rexp', num(last), 'rval', payload)
  redis.call('PEXPIRE', state, life(last - now))
  return publish()
end
function orders.release()
  redis.call('SREM', waiting, args[2])
  if redis.call('HGET', state, 'owner') ~= args[1] then return 0 end
  if redis.call('SCARD', waiting) == 0 and redis.call('HEXISTS', state, 'rfence') == 0 then
    redis.call('DEL', state)
  else
    redis.call('HSET', state, 'owner', '', 'until', '0')
    wake('R', math.max(1, left))
  end
  return 1
end
`

/** Sends the orders of all flights of a layer. */
export const kind: Orders.Kind = /*#__PURE__*/ Orders.kind({
  keys: ["state", "waiting"],
  most: mostOrders,
  mostWeight: mostCharacters,
  lua
})

/** Makes the store. */
export const make = (orders: Orders.Orders, inbox: Inbox.Inbox, options: {
  readonly prefix: string
  readonly leaseMillis: number
  readonly retainMillis: number
}): ReducerStore => {
  const { leaseMillis, prefix } = options
  const leaseMicros = Math.ceil(leaseMillis * 1000)
  const retainMicros = Math.min(Math.ceil(options.retainMillis * 1000), longestRetain)
  const keys = (key: string) => [`{${prefix}${key}}:f`, `{${prefix}${key}}:w`]
  // The largest fence that this process was told.
  let seen = 0
  const member = ({ owner }: Party) => Inbox.addressOf(inbox, owner)

  return {
    leaseMillis,
    open: (onSignal) => Inbox.openParty(inbox, onSignal),
    join: (key, party, after) =>
      orders.send(
        "join",
        keys(key),
        [party.owner, member(party), leaseMicros, after ?? "", seen],
        (reply) => {
          // Sound: the script returns it.
          const [tag, fence, more] = reply as [tag: "L" | "F" | "D", fence: string, more: string]
          seen = Math.max(seen, Number(fence))
          return joinedOf(tag, Number(fence), more, more)
        }
      ),
    renew: (key, party, fence) => orders.send("renew", keys(key), [party.owner, fence, leaseMicros], isOne),
    complete: (key, party, fence, payload) => {
      const send = (inline: number, payload: string): Effect.Effect<boolean, StoreError> =>
        Effect.flatMap(
          orders.send(
            "complete",
            keys(key),
            [party.owner, fence, retainMicros, inline, payload],
            identity,
            payload.length
          ),
          // The result is there; it goes out no second time.
          (reply) => reply === 2 ? send(-1, "") : Effect.succeed(reply === 1)
        )
      return send(inlineBytes, payload)
    },
    release: (key, party) => orders.send("release", keys(key), [party.owner, member(party)], constVoid)
  }
}

const isOne = (reply: unknown): boolean => reply === 1
