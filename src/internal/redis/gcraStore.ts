/**
 * Rates in Redis: one string a key, `anchor debt…`, in microseconds of the server's clock.
 *
 * The string holds debts and not times of arrival. They lose no fraction, and if the server's clock steps back, a key is
 * denied for no longer than its debt.
 */
import type * as Redis from "effect/persistence/Redis"
import type { Cell, GcraStore, Taken } from "../store/gcraStore.js"
import * as Command from "./command.js"

const prelude = `${Command.prelude}local cells = tonumber(ARGV[1])
local interval, burst, debt = {}, {}, {}
for q = 1, cells do interval[q], burst[q], debt[q] = tonumber(ARGV[2 * q]), tonumber(ARGV[2 * q + 1]), 0 end
local stored, stepped = redis.call('GET', KEYS[1]), false
if stored then
  local words = {}
  for word in string.gmatch(stored, '%S+') do words[#words + 1] = tonumber(word) end
  stepped = words[1] > now
  local elapsed = math.max(0, now - words[1])
  for q = 1, cells do debt[q] = math.max(0, (words[q + 1] or 0) - elapsed) end
end
local function write()
  local words, longest = {num(now)}, 0
  for q = 1, cells do
    words[q + 1] = num(debt[q])
    longest = math.max(longest, debt[q])
  end
  local state = table.concat(words, ' ')
  -- Redis expires by whole milliseconds: without slack a key dies early and forgives what is left of its debt.
  redis.call('SET', KEYS[1], state, 'PX', num(math.ceil(longest / 1000) + 1000))
  return state
end
`

/** Run-length encoding: most waiters ask for the same number of tokens. */
const runs = (tokens: ReadonlyArray<number>): Array<number> => {
  const all: Array<number> = []
  for (const n of tokens) {
    if (all.at(-1) === n) all[all.length - 2]!++
    else all.push(1, n)
  }
  return all
}

const takeScript = /*#__PURE__*/ Command.script<ReadonlyArray<string>>(
  "take",
  1,
  `${prelude}
local first = 2 * cells + 2
local most = tonumber(ARGV[first])
local reply = {}
local granted, retry = 0, 0
for i = first + 1, #ARGV, 2 do
  local n = tonumber(ARGV[i + 1])
  for _ = 1, tonumber(ARGV[i]) do
    local wait = 0
    for q = 1, cells do wait = math.max(wait, debt[q] + (n - burst[q]) * interval[q]) end
    if wait > most then
      retry = wait - most
      break
    end
    -- The cell counts from when it starts: a quota that had drained by then has drained no further.
    for q = 1, cells do debt[q] = math.max(debt[q], wait) + n * interval[q] end
    granted = granted + 1
    reply[granted + 6] = num(wait)
  end
  if retry > 0 then break end
end
local after = stored or ''
if granted > 0 or stepped then after = write() end
local remaining, tightest, reset = math.huge, 0, 0
for q = 1, cells do
  local left = math.max(0, math.floor(burst[q] - debt[q] / interval[q] + 1e-9))
  if left < remaining then remaining, tightest = left, q - 1 end
  reset = math.max(reset, debt[q])
end
reply[1], reply[2], reply[3], reply[4] = num(retry), num(remaining), num(reset), num(tightest)
reply[5], reply[6] = stored or '', after
return reply
`
)

const giveBackScript = /*#__PURE__*/ Command.script<number>(
  "giveBack",
  1,
  `${prelude}
-- What came last may be taken away as if it had never come; what others have been granted behind it may not move.
if stored ~= ARGV[2 * cells + 3] then return 0 end
local n = tonumber(ARGV[2 * cells + 2])
for q = 1, cells do debt[q] = math.max(0, debt[q] - n * interval[q]) end
write()
return 1
`
)

const penalizeScript = /*#__PURE__*/ Command.script<number>(
  "penalize",
  1,
  `${prelude}
-- As much debt as lets one token wait that long.
local micros = tonumber(ARGV[2 * cells + 2])
for q = 1, cells do debt[q] = math.max(debt[q], micros + (burst[q] - 1) * interval[q]) end
write()
return 1
`
)

/** Makes the store for keys that all have the same quotas. */
export const make = (redis: Redis.Redis["Service"], options: {
  readonly prefix: string
  readonly cells: ReadonlyArray<Cell>
}): GcraStore => {
  const cells = [options.cells.length, ...options.cells.flatMap((cell) => [cell.intervalMicros, cell.burst])]
  const take = takeScript(redis)
  const giveBack = giveBackScript(redis)
  const penalize = penalizeScript(redis)
  const at = (key: string) => `{${options.prefix}${key}}:r`

  return {
    take: (key, tokens, maxWaitMillis) =>
      take([at(key), ...cells, Math.ceil(maxWaitMillis * 1000), ...runs(tokens)], (reply): Taken => ({
        retryMillis: Number(reply[0]) / 1000,
        remaining: Number(reply[1]),
        resetMillis: Number(reply[2]) / 1000,
        tightest: Number(reply[3]),
        before: reply[4]!,
        after: reply[5]!,
        waits: reply.slice(6).map((wait) => Number(wait) / 1000)
      })),
    giveBack: (key, tokens, after) => giveBack([at(key), ...cells, tokens, after], Command.ignore),
    penalize: (key, millis) => penalize([at(key), ...cells, Math.ceil(millis * 1000)], Command.ignore),
    reset: (key) => Command.command("reset", redis.send("DEL", at(key)), Command.ignore)
  }
}
