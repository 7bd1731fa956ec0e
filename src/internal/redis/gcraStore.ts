/**
 * Rates in Redis: one string a key, `anchor debt…`, in microseconds of the server's clock.
 *
 * The string holds debts and not times of arrival. They lose no fraction, and if the server's clock steps back, a key is
 * denied for no longer than its debt.
 */
import { constVoid } from "effect/Function"
import { type Cell, type DirectGcraStore, type Taken, takenOf } from "../store/gcraStore.js"
import * as Orders from "./orders.js"

/** The most orders of one command, and the most tokens that they ask for: a script must not hold up the server. */
const mostOrders = 128
const mostTokens = 1024

const lua = `
local call, max, ceil = redis.call, math.max, math.ceil
local stamp = num(now)
local cells, interval, burst, debt = 0, {}, {}, {}
-- The state that was read, the one to write, and the answer to 'take' with the state that it answers.
local stored, stepped, text, ttl, answered, reply
local function read()
  if not again then
    cells, answered = tonumber(args[1]), nil
    for q = 1, cells do interval[q], burst[q] = tonumber(args[2 * q]), tonumber(args[2 * q + 1]) end
  end
  stored = call('GET', key)
end
local function parse()
  for q = 1, cells do debt[q] = 0 end
  stepped = false
  if not stored then return end
  local q, elapsed = 0, 0
  for word in string.gmatch(stored, '%S+') do
    local x = tonumber(word)
    if q == 0 then
      stepped, elapsed = x > now, max(0, now - x)
    elseif q <= cells then
      debt[q] = max(0, x - elapsed)
    end
    q = q + 1
  end
end
local function state()
  local longest = 0
  text = stamp
  for q = 1, cells do
    text = text .. ' ' .. num(debt[q])
    longest = max(longest, debt[q])
  end
  -- A key that dies early forgives what is left of its debt.
  ttl = life(longest)
end
local function write()
  call('SET', key, text, 'PX', ttl)
end
local function take()
  local first = 2 * cells + 2
  local most = tonumber(args[first])
  local granted, retry, waits = 0, 0, ''
  for i = first + 1, #args, 2 do
    local n = tonumber(args[i + 1])
    for _ = 1, tonumber(args[i]) do
      local wait = 0
      for q = 1, cells do wait = max(wait, debt[q] + (n - burst[q]) * interval[q]) end
      if wait > most then
        retry = wait - most
        break
      end
      -- The cell counts from when it starts: a quota that had drained by then has drained no further.
      for q = 1, cells do debt[q] = max(debt[q], wait) + n * interval[q] end
      granted = granted + 1
      -- No wait is shorter than the one before. In whole microseconds, rounded up.
      if wait > 0 then
        if waits == '' then waits = {} end
        waits[#waits + 1] = num(ceil(wait))
      end
    end
    if retry > 0 then break end
  end
  state()
  local changed = granted > 0 or stepped
  if granted > 0 and waits ~= '' then waits = table.concat(waits, ' ') end
  -- One text is written and read faster than a list.
  reply = num(granted) .. ',' .. num(ceil(retry)) .. (changed and ',1,' or ',0,') .. text .. ',' .. waits .. ',' .. (stored or '')
  if not changed then text = nil end
end
function orders.take()
  read()
  -- Many keys are in one state, as all that are new: the same order has the same answer.
  if stored ~= answered then
    answered = nil
    parse()
    take()
    answered = stored
  end
  if text then write() end
  return reply
end
function orders.giveBack()
  read()
  -- What came last may be taken away as if it had never come; what others have been granted behind it may not move.
  if stored ~= args[2 * cells + 3] then return 0 end
  parse()
  local n = tonumber(args[2 * cells + 2])
  for q = 1, cells do debt[q] = max(0, debt[q] - n * interval[q]) end
  state()
  write()
  return 1
end
function orders.penalize()
  read()
  parse()
  -- As much debt as lets one token wait that long.
  local micros = tonumber(args[2 * cells + 2])
  for q = 1, cells do debt[q] = max(debt[q], micros + (burst[q] - 1) * interval[q]) end
  state()
  write()
  return 1
end
function orders.reset()
  return call('DEL', key)
end
`

/** Sends the orders of all keys and limiters of a layer. */
export const kind: Orders.Kind = /*#__PURE__*/ Orders.kind({
  keys: ["key"],
  most: mostOrders,
  mostWeight: mostTokens,
  lua
})

/** Run-length encoding: most waiters ask for the same number of tokens. */
const runs = (tokens: ReadonlyArray<number>): Array<number> => {
  const all: Array<number> = []
  for (const n of tokens) {
    if (all.at(-1) === n) all[all.length - 2]!++
    else all.push(1, n)
  }
  return all
}

/** Reads `granted,retry,changed,state,waits,before`. A foreign client may have written what comes last. */
const taken = (reply: unknown, cells: ReadonlyArray<Cell>): Taken => {
  const text = String(reply)
  let from = 0
  const next = () => {
    const at = text.indexOf(",", from)
    const word = text.slice(from, at)
    from = at + 1
    return word
  }
  const granted = Number(next())
  const retryMillis = Number(next()) / 1000
  const hasChanged = next() === "1"
  const state = next()
  const waiting = next()
  const before = text.slice(from)
  const waits = waiting === "" ? [] : waiting.split(" ").map((wait) => Number(wait) / 1000)
  while (waits.length < granted) waits.unshift(0)
  // The first word is the time.
  return takenOf(cells, state.split(" "), 1, waits, retryMillis, before, hasChanged ? state : before)
}

/** Makes the store for keys that all have the same quotas. */
export const make = (orders: Orders.Orders, { cells, prefix }: {
  readonly prefix: string
  readonly cells: ReadonlyArray<Cell>
}): DirectGcraStore => {
  const quotas = [cells.length, ...cells.flatMap((cell) => [cell.intervalMicros, cell.burst])]
  // Many keys are in one state.
  let last: { readonly reply: unknown; readonly taken: Taken } | undefined
  const read = (reply: unknown): Taken => {
    if (last === undefined || last.reply !== reply) last = { reply, taken: taken(reply, cells) }
    return last.taken
  }
  const asked = (tokens: ReadonlyArray<number>, maxWaitMillis: number) => [
    ...quotas,
    Math.ceil(maxWaitMillis * 1000),
    ...runs(tokens)
  ]
  const at = (key: string) => [`{${prefix}${key}}:r`]

  return {
    take: (key, tokens, maxWaitMillis) =>
      orders.send("take", at(key), asked(tokens, maxWaitMillis), read, tokens.length),
    takeUnsafe: (key, tokens, maxWaitMillis, answer) =>
      orders.sendUnsafe("take", at(key), asked(tokens, maxWaitMillis), read, tokens.length, answer),
    giveBack: (key, tokens, after) => orders.send("giveBack", at(key), [...quotas, tokens, after], constVoid),
    penalize: (key, millis) => orders.send("penalize", at(key), [...quotas, Math.ceil(millis * 1000)], constVoid),
    reset: (key) => orders.send("reset", at(key), [], constVoid)
  }
}
