/**
 * Permits in Redis: their leases, the queue of the processes that wait, with the weight each one needs next, and the
 * penalty. One script carries out many orders, also for different schedulers: those of a tag have one hash tag.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Redis from "effect/persistence/Redis"
import type { Site } from "../scheduler/site.js"
import type { Acquired, PermitStore } from "../store/permitStore.js"
import { within } from "../store/guard.js"
import { StoreError } from "../store/storeError.js"
import * as Command from "./command.js"
import type { RedisInbox } from "./inbox.js"

/** The keys of one scheduler. */
const keysPerOrder = 5

/** The most orders of one command: a script must not hold up the server. */
const mostOrders = 32

// held: permit → end of its lease; queue: inbox → arrival; alive: inbox → end of its place; needs: inbox → its head's weight
// pause: when the penalty was counted, and what was left of it then
const lua = `${Command.prelude}local held, queue, alive, needs, pause, args
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
  for _, key in ipairs({held, queue, alive, needs}) do
    redis.call('PEXPIRE', key, math.ceil(lease / 1000) + 1000)
  end
end
local function tell(inbox)
  local space = string.find(inbox, ' ', 1, true)
  redis.call('PUBLISH', string.sub(inbox, space + 1), string.sub(inbox, 1, space) .. 'P')
end
-- Each who waits is told when what is free has come to reach it.
local function wake(free, me)
  for _, inbox in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if free <= 0 or inbox == me then return end
    tell(inbox)
    free = free - tonumber(redis.call('HGET', needs, inbox) or 1)
  end
end
local function setPenalty(left)
  redis.call('SET', pause, num(now) .. ' ' .. num(left), 'PX', num(math.ceil(left / 1000) + 1000))
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
local orders = {}
function orders.acquire()
  local me, lease, limit = args[1], tonumber(args[2]), tonumber(args[3])
  clean(lease)
  local left = penalty()
  if left > 0 then
    -- What a command that was lost has taken is nobody's.
    for i = 4, #args do redis.call('ZREM', held, args[i]) end
    leave(me)
    return {0, num(lease), num(left)}
  end
  local ahead = 0
  for _, inbox in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if inbox == me then break end
    ahead = ahead + tonumber(redis.call('HGET', needs, inbox) or 1)
  end
  local free = limit - redis.call('ZCARD', held) - ahead
  local granted, need, i = 0, 0, 4
  while i <= #args do
    local size = tonumber(args[i])
    local missing = 0
    for j = i + 1, i + size do
      if not redis.call('ZSCORE', held, args[j]) then missing = missing + 1 end
    end
    if missing > 0 and missing > free then
      need = size
      break
    end
    for j = i + 1, i + size do redis.call('ZADD', held, num(now + lease), args[j]) end
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
  return {granted, num(poll), '0'}
end
function orders.renew()
  local lease, limit = tonumber(args[1]), tonumber(args[2])
  clean(lease)
  local lost = {}
  for i = 3, #args do
    -- A permit that Redis forgot is held again while there is room.
    if redis.call('ZSCORE', held, args[i]) or redis.call('ZCARD', held) < limit then
      redis.call('ZADD', held, num(now + lease), args[i])
    else
      lost[#lost + 1] = args[i]
    end
  end
  keep(lease)
  return lost
end
function orders.release()
  local freed = 0
  for i = 1, #args do freed = freed + redis.call('ZREM', held, args[i]) end
  wake(freed, nil)
  return freed
end
function orders.penalize()
  local micros = tonumber(args[1])
  if micros <= penalty() then return 0 end
  setPenalty(micros)
  -- They learn of it when they ask.
  for _, inbox in ipairs(redis.call('ZRANGE', queue, 0, -1)) do tell(inbox) end
  return 1
end
local replies, at = {}, 1
for i = 1, #KEYS, 5 do
  held, queue, alive, needs, pause = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3], KEYS[i + 4]
  args = {}
  for j = 1, tonumber(ARGV[at + 1]) do args[j] = ARGV[at + 1 + j] end
  -- What is wrong with one key is no other's failure.
  local ok, reply = pcall(orders[ARGV[at]])
  if not ok then reply = type(reply) == 'table' and reply.err or tostring(reply) end
  replies[#replies + 1] = {ok and 1 or 0, reply}
  at = at + 2 + #args
end
return replies
`

/** For the permits of one scheduler. */
interface Order {
  readonly name: string
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<string | number>
  readonly resume: (reply: Effect.Effect<unknown, StoreError>) => void
  /** The command that carries it. */
  command: Sent | undefined
  open: boolean
}

interface Sent {
  /** How many of its orders are waited for. */
  open: number
  fiber: Fiber.Fiber<void> | undefined
}

type Replies = ReadonlyArray<readonly [ok: number, reply: unknown]>

const script = /*#__PURE__*/ Redis.script(
  (orders: ReadonlyArray<Order>) => [
    ...orders.flatMap((order) => order.keys),
    ...orders.flatMap((order) => [order.name, order.args.length, ...order.args])
  ],
  { numberOfKeys: (orders) => orders.length * keysPerOrder, lua }
).withReturnType<Replies>()

/** Sends what the schedulers of a process order in one turn of the event loop, many orders in one command. */
export class Orders {
  private readonly run: (orders: ReadonlyArray<Order>) => Effect.Effect<Replies, Redis.RedisError>
  private readonly site: Site
  private readonly timeoutMillis: number
  private waiting: Array<Order> = []

  /** A command may take so long, from when it is sent. */
  constructor(redis: Redis.Redis["Service"], site: Site, timeoutMillis: number) {
    this.run = redis.eval(script)
    this.site = site
    this.timeoutMillis = timeoutMillis
  }

  send<A>(
    name: string,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>,
    f: (reply: unknown) => A
  ): Effect.Effect<A, StoreError> {
    return Effect.callback<A, StoreError>((resume) => {
      const order: Order = {
        name,
        keys,
        args,
        resume: (reply) => resume(Effect.map(reply, f)),
        command: undefined,
        open: true
      }
      if (this.waiting.push(order) === 1) this.site.dispatcher.scheduleTask(this.flush, 0)
      return Effect.sync(() => {
        order.open = false
        const { command } = order
        if (command !== undefined && --command.open === 0) command.fiber?.interruptUnsafe()
      })
    })
  }

  private readonly flush = (): void => {
    const orders = this.waiting.filter((order) => order.open)
    this.waiting = []
    for (let i = 0; i < orders.length; i += mostOrders) this.dispatch(orders.slice(i, i + mostOrders))
  }

  private dispatch(orders: ReadonlyArray<Order>): void {
    const command: Sent = { open: orders.length, fiber: undefined }
    for (const order of orders) order.command = command
    const run = within(this.run(orders), this.timeoutMillis, (cause) => new Redis.RedisError({ cause }))
    command.fiber = Effect.runForkWith(this.site.context)(Effect.matchEager(run, {
      onFailure: ({ cause }) => {
        for (const { name, resume } of orders) resume(Effect.fail(new StoreError({ operation: name, cause })))
      },
      onSuccess: (replies) => {
        orders.forEach(({ name, resume }, i) => {
          const [ok, reply] = replies[i]!
          resume(ok === 1 ? Effect.succeed(reply) : Effect.fail(new StoreError({ operation: name, cause: reply })))
        })
      }
    }))
  }
}

/** Makes the store of one scheduler. It calls `onWake` when a permit may be free. */
export const make = (orders: Orders, inbox: RedisInbox, options: {
  readonly prefix: string
  readonly name: string
  /** The key of the scheduler, if there is one a key. */
  readonly key?: string | undefined
  readonly leaseMillis: number
  readonly onWake: () => void
}): PermitStore => {
  const { key, leaseMillis } = options
  const leaseMicros = Math.ceil(leaseMillis * 1000)
  const end = key === undefined ? "" : `:${key}`
  const keys = ["h", "q", "a", "n", "p"].map((kind) => `{${options.prefix}${options.name}}:${kind}${end}`)
  const token = inbox.add(() => options.onWake())
  const place = `${token} ${inbox.channel}`

  // The casts are sound: the script returns replies of these types.
  return {
    leaseMillis,
    node: `${inbox.node}.${token}`,
    close: () => inbox.remove(token),
    acquire: (groups, limit) =>
      orders.send(
        "acquire",
        keys,
        [place, leaseMicros, limit, ...groups.flatMap((group) => [group.length, ...group])],
        (reply): Acquired => {
          const [granted, poll, penalty] = reply as [number, string, string]
          return { granted, pollMillis: Number(poll) / 1000, penaltyMillis: Number(penalty) / 1000 }
        }
      ),
    renew: (ids, limit) =>
      orders.send("renew", keys, [leaseMicros, limit, ...ids], (lost) => lost as ReadonlyArray<string>),
    release: (ids) => orders.send("release", keys, ids, Command.ignore),
    penalize: (millis) => orders.send("penalize", keys, [Math.ceil(millis * 1000)], Command.ignore)
  }
}
