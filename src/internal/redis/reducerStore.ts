/**
 * Flights in Redis: for each key a hash with the lease and the result, and a set of the waiting processes.
 *
 * Scripts use the server's time only. Every script may run twice, and every key has a time to live.
 */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type * as Redis from "effect/persistence/Redis"
import type { Joined, Party, ReducerStore, Signal } from "../store/reducerStore.js"
import type { StoreError } from "../store/storeError.js"
import * as Command from "./command.js"
import type { RedisInbox } from "./inbox.js"

/** The largest result that travels with the wake-up, and what it may come to with all wake-ups. Larger ones are fetched. */
export const inlineBytes = 16 * 1024
const inlineTotal = 64 * inlineBytes

/** How many processes one script wakes. */
const mostWoken = 250

const prelude = `${Command.prelude}local state, waiting = KEYS[1], KEYS[2]
local function wake(message)
  for _, member in ipairs(redis.call('SPOP', waiting, ${mostWoken})) do
    local space = string.find(member, ' ', 1, true)
    redis.call('PUBLISH', string.sub(member, space + 1), string.sub(member, 1, space) .. message)
  end
end
-- What another client has written is bounded: a number that nobody can have been given counts as none.
local function read(text, most)
  local x = tonumber(text or 0)
  return x and x >= 0 and x <= most and x or 0
end
-- Beyond it numbers are no longer exact. In microseconds it is the year 2112.
local largest = 4503599627370496
`

const joinScript = /*#__PURE__*/ Command.script<["L", string] | ["F", string, string] | ["D", string, string]>(
  "join",
  2,
  `${prelude}
local me, member, lease, after, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local h = redis.call('HMGET', state, 'owner', 'fence', 'until', 'lease', 'rfence', 'rexp')
local owner, fence, till = h[1], read(h[2], largest), tonumber(h[3] or 0) or 0
local rfence, rexp = read(h[5], largest), read(h[6], largest)
if rfence > 0 and rexp <= now then
  redis.call('HDEL', state, 'rfence', 'rexp', 'rval')
  rfence, rexp = 0, 0
end
if after and rfence >= after then
  redis.call('SREM', waiting, member)
  return {'D', num(rfence), redis.call('HGET', state, 'rval')}
end
local theirs = read(h[4], ${Command.longestLease})
local most = now + (theirs > 0 and theirs or lease)
if till > most then
  till = most
  redis.call('HSET', state, 'until', num(till))
end
local keep = math.ceil(math.max(2 * lease, rexp - now) / 1000) + 1000
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
`
)

const renewScript = /*#__PURE__*/ Command.script<number>(
  "renew",
  2,
  `${prelude}
local me, fence, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local h = redis.call('HMGET', state, 'owner', 'fence', 'rexp')
if h[2] and (tonumber(h[2]) ~= fence or h[1] ~= me) then return 0 end
-- Where Redis has no memory left, it refuses what grows, unless the script has written before: a run that goes on is kept.
redis.call('PEXPIRE', state, math.ceil(math.max(2 * lease, read(h[3], largest) - now) / 1000) + 1000)
-- With the state gone those who waited are forgotten, and will ask again: the result is kept for them.
if not h[2] then redis.call('HSET', state, 'taken', '1') end
redis.call('HSET', state, 'owner', me, 'fence', num(fence), 'until', num(now + lease), 'lease', num(lease))
redis.call('PEXPIRE', state, math.ceil(math.max(2 * lease, read(h[3], largest) - now) / 1000) + 1000)
return 1
`
)

const completeScript = /*#__PURE__*/ Command.script<number>(
  "complete",
  2,
  `${prelude}
local me, fence, retain, inline, payload = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local h = redis.call('HMGET', state, 'owner', 'fence', 'rfence', 'taken')
-- 2: more are still to be woken, by the same command again.
local function publish()
  local count = redis.call('SCARD', waiting)
  if count == 0 then return 1 end
  local isSmall = #payload <= inline and #payload * count <= ${inlineTotal}
  wake((isSmall and 'D ' or 'E ') .. num(fence) .. (isSmall and ' ' .. payload or ''))
  return count > ${mostWoken} and 2 or 1
end
if tonumber(h[3] or 0) == fence then return tonumber(h[2]) == fence and publish() or 1 end
if inline < 0 then return 1 end
if h[2] and (tonumber(h[2]) ~= fence or h[1] ~= me) then return 0 end
-- With the state gone those who waited may be gone from their set as well, and will ask again.
if h[2] and not h[4] and redis.call('SCARD', waiting) == 0 then
  redis.call('DEL', state)
  return 1
end
redis.call('HDEL', state, 'taken')
redis.call('HSET', state, 'owner', '', 'fence', num(fence), 'until', '0',
  'rfence', num(fence), 'rexp', num(now + retain), 'rval', payload)
redis.call('PEXPIRE', state, math.ceil(retain / 1000) + 1000)
return publish()
`
)

const releaseScript = /*#__PURE__*/ Command.script<number>(
  "release",
  2,
  `${prelude}
redis.call('SREM', waiting, ARGV[2])
if redis.call('HGET', state, 'owner') ~= ARGV[1] then return 0 end
if redis.call('SCARD', waiting) == 0 and redis.call('HEXISTS', state, 'rfence') == 0 then
  redis.call('DEL', state)
else
  redis.call('HSET', state, 'owner', '', 'until', '0')
  wake('R')
end
return 1
`
)

const parseSignal = (message: string | undefined): Signal => {
  if (message === undefined || message === "R") return { _tag: "Retry" }
  const space = message.indexOf(" ", 2)
  return space === -1
    ? { _tag: "Done", fence: Number(message.slice(2)), payload: undefined }
    : { _tag: "Done", fence: Number(message.slice(2, space)), payload: message.slice(space + 1) }
}

/** Makes the store. */
export const make = (redis: Redis.Redis["Service"], inbox: RedisInbox, options: {
  readonly prefix: string
  readonly leaseMillis: number
  readonly retainMillis: number
}): ReducerStore => {
  const { leaseMillis, prefix } = options
  const leaseMicros = Math.ceil(leaseMillis * 1000)
  const retainMicros = Math.ceil(options.retainMillis * 1000)
  const join = joinScript(redis)
  const renew = renewScript(redis)
  const complete = completeScript(redis)
  const release = releaseScript(redis)
  const keys = (key: string) => [`{${prefix}${key}}:f`, `{${prefix}${key}}:w`]
  // The largest fence that this process was told.
  let seen = 0
  const member = (party: Party) => `${party.owner.slice(inbox.node.length + 1)} ${inbox.channel}`

  return {
    leaseMillis,
    open: (onSignal) => {
      const token = inbox.add((message) => onSignal(parseSignal(message)))
      return { owner: `${inbox.node}.${token}`, close: () => inbox.remove(token) }
    },
    join: (key, party, after) =>
      join([...keys(key), party.owner, member(party), leaseMicros, after ?? "", seen], (reply): Joined => {
        const fence = Number(reply[1])
        seen = Math.max(seen, fence)
        switch (reply[0]) {
          case "L":
            return { _tag: "Lead", fence }
          case "F":
            return { _tag: "Follow", fence, restMillis: Number(reply[2]) / 1000 }
          case "D":
            return { _tag: "Done", fence, payload: reply[2] }
        }
      }),
    renew: (key, party, fence) => renew([...keys(key), party.owner, fence, leaseMicros], isOne),
    complete: (key, party, fence, payload) => {
      const send = (inline: number, payload: string): Effect.Effect<boolean, StoreError> =>
        Effect.flatMap(
          complete([...keys(key), party.owner, fence, retainMicros, inline, payload], identity),
          // The result is there; it goes out no second time.
          (reply) => reply === 2 ? send(-1, "") : Effect.succeed(reply === 1)
        )
      return send(inlineBytes, payload)
    },
    release: (key, party) => release([...keys(key), party.owner, member(party)], Command.ignore)
  }
}

const isOne = (reply: number): boolean => reply === 1
