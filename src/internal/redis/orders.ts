/**
 * Scripts that carry out many orders, each one for keys of its own: what the services of a process ask of Redis in one turn
 * of the event loop goes as one command.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Redis from "effect/persistence/Redis"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { dispatcherIn } from "../data/dispatcher.js"
import { forEachGuarded, guarded } from "../data/guarded.js"
import { turns, within } from "../store/guard.js"
import { StoreError } from "../store/storeError.js"

/**
 * The start of every script: the server's time in microseconds, numbers as text without losing digits, and the time to live of
 * a key in milliseconds.
 */
const prelude = `
local format = string.format
local function num(x) return format(x % 1 == 0 and x < 9007199254740992 and '%d' or '%.17g', x) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- With slack: Redis expires by whole milliseconds. It takes no time beyond its integers.
local function life(micros) return math.min(math.ceil(micros / 1000), 1e15) + 1000 end
`

/** The options of a service over orders, which bound their time and number themselves. */
export const bounded = <A extends object>(options: A) => ({ ...options, isBounded: true })

/** How many commands are on their way at most, and how many of one order each. */
const mostAtOnce = 16
const mostAlone = 256

type Words = ReadonlyArray<string | number>

/** For the keys of one flight, one rate, or one scheduler. */
interface Order {
  readonly name: string
  readonly keys: ReadonlyArray<string>
  readonly args: Words
  readonly weight: number
  readonly settle: (reply: unknown, failure: StoreError | undefined) => void
  /** The command that carries it. */
  command: Sent | undefined
  open: boolean
}

interface Sent {
  /** How many of its orders are waited for. */
  open: number
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

/** What a kind of orders has in common. */
export interface Kind {
  /** The most orders of one command, and their weight together: a script must not hold up the server. */
  readonly most: number
  readonly mostWeight: number
  readonly script: Redis.Script<{
    readonly params: readonly [ReadonlyArray<Order>]
    readonly result: ReadonlyArray<unknown>
  }>
}

const isSame = (a: Words, b: Words): boolean => a.length === b.length && a.every((word, i) => word === b[i])

/** All keys, then the name and the arguments of each order. Those that equal the ones before are left out. */
const words = (orders: ReadonlyArray<Order>): Array<string | number> => {
  const all: Array<string | number> = orders.flatMap((order) => order.keys)
  let last: Order | undefined
  for (const order of orders) {
    if (last !== undefined && order.name === last.name && isSame(order.args, last.args)) all.push("=")
    else all.push(order.name, order.args.length, ...order.args)
    last = order
  }
  return all
}

/**
 * Makes a kind of orders. Its Lua adds a function for each name to `orders`. The function finds the keys of an order under
 * their names and its arguments in `args`; `again` tells that they are those of the order before. No text that it returns
 * begins with a `-`.
 */
export const kind = (options: {
  readonly keys: ReadonlyArray<string>
  readonly most: number
  readonly mostWeight: number
  readonly lua: string
}): Kind => {
  const { keys, lua, most, mostWeight } = options
  const names = keys.join(", ")
  return {
    most,
    mostWeight,
    script: Redis.script(words, {
      numberOfKeys: (orders) => orders.length * keys.length,
      lua: `${prelude}local ${names}, args, again
local orders = {}
${lua}
local replies, name, at = {}, nil, 1
for i = 1, #KEYS, ${keys.length} do
  ${names} = ${keys.map((_, j) => `KEYS[i + ${j}]`).join(", ")}
  again = ARGV[at] == '='
  if again then
    at = at + 1
  else
    name, args = ARGV[at], {}
    for j = 1, tonumber(ARGV[at + 1]) do args[j] = ARGV[at + 1 + j] end
    at = at + 2 + #args
  end
  -- What is wrong with one key is no other's failure.
  local ok, reply = pcall(orders[name])
  if not ok then
    local err = type(reply) == 'table' and reply.err or tostring(reply)
    -- A server that a fail-over has demoted: the client is to hear of it.
    if string.find(err, 'READONLY', 1, true) then return {err = err} end
    reply = '-' .. err
  end
  replies[#replies + 1] = reply
end
return replies
`
    }).withReturnType<ReadonlyArray<unknown>>()
  }
}

/** Keys with the same hash tag are on one node. */
const tagOf = ({ keys: [key = ""] }: Order): string => key.slice(0, key.indexOf("}"))

const byTag = (orders: ReadonlyArray<Order>): Iterable<ReadonlyArray<Order>> => {
  const groups = new Map<string, Array<Order>>()
  for (const order of orders) {
    const group = groups.get(tagOf(order))
    if (group === undefined) groups.set(tagOf(order), [order])
    else group.push(order)
  }
  return groups.values()
}

const isOpen = (order: Order): boolean => order.open

/** Sends orders of one kind. A command may take `timeoutMillis`, from when it is sent. */
export const make = (
  kind: Kind,
  redis: Redis.Redis["Service"],
  timeoutMillis: number
): Effect.Effect<Orders> =>
  Effect.withFiber(({ context }) => Effect.succeed(new Orders(kind, redis, timeoutMillis, context)))

export class Orders {
  private readonly kind: Kind
  private readonly run: (orders: ReadonlyArray<Order>) => Effect.Effect<ReadonlyArray<unknown>, Redis.RedisError>
  private readonly timeoutMillis: number
  private readonly context: Context.Context<never>
  private readonly dispatcher: SchedulerDispatcher
  private waiting: Array<Order> = []
  private inTurn = turns(mostAtOnce)
  /** Whether Redis is a cluster, which refuses a command for keys of several slots. */
  private apart = false
  /** The last failure, until a command is answered. */
  private failure: Redis.RedisError | undefined
  private failures = 0

  constructor(kind: Kind, redis: Redis.Redis["Service"], timeoutMillis: number, context: Context.Context<never>) {
    this.kind = kind
    this.run = redis.eval(kind.script)
    this.timeoutMillis = timeoutMillis
    this.context = context
    this.dispatcher = dispatcherIn(context)
  }

  /** The reply to an order. Orders go in the order of their calls; once nobody waits for any order of a command, it is given up. */
  send<A>(
    name: string,
    keys: ReadonlyArray<string>,
    args: Words,
    f: (reply: unknown) => A,
    weight: number = args.length
  ): Effect.Effect<A, StoreError> {
    return Effect.callback<A, StoreError>((resume) => Effect.sync(this.sendUnsafe(name, keys, args, f, weight, resume)))
  }

  /** The same with a callback. The function that it returns gives the order up. */
  sendUnsafe<A>(
    name: string,
    keys: ReadonlyArray<string>,
    args: Words,
    f: (reply: unknown) => A,
    weight: number,
    answer: (exit: Exit.Exit<A, StoreError>) => void
  ): () => void {
    const settle: Order["settle"] = (reply, failure) => {
      if (order.open) answer(failure === undefined ? read(f, reply) : Exit.fail(failure))
    }
    const order: Order = { name, keys, args, weight, settle, command: undefined, open: true }
    if (this.waiting.push(order) === 1) this.dispatcher.scheduleTask(this.flush, 0)
    return () => {
      order.open = false
      const { command } = order
      if (command !== undefined && --command.open === 0) command.fiber?.interruptUnsafe()
    }
  }

  private readonly flush = (): void => {
    const orders = this.waiting.filter(isOpen)
    this.waiting = []
    for (const together of this.apart ? byTag(orders) : [orders]) this.split(together)
  }

  private split(orders: ReadonlyArray<Order>): void {
    const { most, mostWeight } = this.kind
    let some: Array<Order> = []
    let weight = 0
    for (const order of orders) {
      if (some.length === most || (some.length > 0 && weight + order.weight > mostWeight)) {
        this.dispatch(some)
        some = []
        weight = 0
      }
      some.push(order)
      weight += order.weight
    }
    if (some.length > 0) this.dispatch(some)
  }

  private dispatch(orders: ReadonlyArray<Order>): void {
    const command: Sent = { open: orders.length, fiber: undefined }
    for (const order of orders) order.command = command
    const { failures } = this
    const run = Effect.suspend(() =>
      // What waited while another one failed has waited long enough.
      this.failure !== undefined && this.failures > failures
        ? Effect.fail(this.failure)
        : within(this.run(orders), this.timeoutMillis, (cause) => new Redis.RedisError({ cause }))
    )
    // In its turn: the next one is to hear of a failure.
    const settled = Effect.onExit(run, (exit) => Effect.sync(() => this.settle(orders, exit)))
    command.fiber = Effect.runForkWith(this.context)(this.inTurn(settled))
  }

  private settle(orders: ReadonlyArray<Order>, exit: Exit.Exit<unknown, Redis.RedisError>): void {
    if (Exit.isSuccess(exit)) {
      const replies = exit.value
      if (!Array.isArray(replies) || replies.length !== orders.length) {
        return fail(orders, new Error(`expected ${orders.length} replies, got ${String(replies).slice(0, 100)}`))
      }
      this.failure = undefined
      return forEachGuarded(orders, ({ name, settle }, i) => {
        const reply: unknown = replies[i]
        const isFailure = typeof reply === "string" && reply.startsWith("-")
        settle(reply, isFailure ? new StoreError({ operation: name, cause: reply.slice(1) }) : undefined)
      })
    }
    // A defect of the client, too, is a failure of the command.
    const error = Cause.squash(exit.cause)
    const failure = error instanceof Redis.RedisError ? error : new Redis.RedisError({ cause: error })
    if (orders.length > 1 && String(failure.cause).includes("CROSSSLOT")) {
      // Nothing has been carried out.
      this.apart = true
      this.inTurn = turns(mostAlone)
      for (const order of orders.filter(isOpen)) this.dispatch([order])
      return
    }
    if (!Cause.hasInterruptsOnly(exit.cause)) {
      this.failure = failure
      this.failures++
    }
    fail(orders, causeOf(failure))
  }
}

/** The reason why a command failed. A client of one node does not reach the keys of the others. */
const causeOf = ({ cause }: Redis.RedisError): unknown =>
  cause instanceof Error && cause.message.startsWith("MOVED ")
    ? new Error(`Redis is a cluster, use layerCluster of effect-funnel/redis/Redis (${cause.message})`, { cause })
    : cause

const fail = (orders: ReadonlyArray<Order>, cause: unknown): void =>
  forEachGuarded(orders, ({ name, settle }) => settle(undefined, new StoreError({ operation: name, cause })))

/** A reply that its caller cannot read is a defect of that caller. */
const read = <A>(f: (reply: unknown) => A, reply: unknown): Exit.Exit<A> =>
  guarded(() => Exit.succeed(f(reply)), Exit.die)
