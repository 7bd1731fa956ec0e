/**
 * A Redis that connects in the background, with clients that a test answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Queue, Scope } from "effect"
import { Redis } from "effect/persistence"
import { TestClock } from "effect/testing"
import { layerBackground } from "../../src/redis/Redis.js"
import { fork, settle } from "../support/fibers.ts"

const error = (message: string) => new Redis.RedisError({ cause: new Error(message) })

/** Answers of the clients, by their number and the command. */
type Answers = (client: number, command: string) => Effect.Effect<unknown, Redis.RedisError>

const answered: Answers = (client) => Effect.succeed(client)

const setup = (answers: Answers = answered) =>
  Effect.gen(function*() {
    const seen = { attempts: 0, reachable: true, sent: [] as Array<string>, closed: [] as Array<number> }
    const client = Layer.effect(
      Redis.Redis,
      Effect.gen(function*() {
        const number = ++seen.attempts
        if (!seen.reachable) return yield* Effect.fail(error("connection refused"))
        yield* Effect.addFinalizer(() => Effect.sync(() => void seen.closed.push(number)))
        const send = (command: string) =>
          Effect.suspend(() => {
            seen.sent.push(`${number} ${command}`)
            return answers(number, command)
          })
        return Redis.Redis.of({
          send: <A>(command: string) => send(command) as Effect.Effect<A, Redis.RedisError>,
          // Sound for a test: it does not look at the answer.
          eval: () => () => send("EVALSHA") as Effect.Effect<never, Redis.RedisError>,
          subscribe: (channel) =>
            Effect.andThen(
              Effect.ignore(send(`SUBSCRIBE ${channel}`)),
              Queue.unbounded<Redis.RedisMessage, Redis.RedisError>()
            ),
          reserve: Effect.flatMap(send("RESERVE"), () => Effect.fail(error("no connection of its own")))
        })
      })
    )
    const connect = Effect.gen(function*() {
      const context = yield* Layer.build(layerBackground(client))
      yield* settle
      return yield* Effect.provideContext(Redis.Redis, context)
    })
    return { connect, seen }
  })

describe("a Redis that connects in the background", () => {
  it.effect("attempts are 50 milliseconds apart, then twice as long each time, and 2 seconds at most", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup()
      seen.reachable = false
      const redis = yield* connect
      expect(String((yield* Effect.flip(redis.send("GET"))).cause)).toContain("connection refused")
      const waits: Array<number> = []
      for (let wait = 0; waits.length < 8;) {
        const { attempts } = seen
        yield* TestClock.adjust(10)
        wait += 10
        if (seen.attempts === attempts) continue
        waits.push(wait)
        wait = 0
      }
      expect(waits).toEqual([50, 100, 200, 400, 800, 1600, 2000, 2000])
      seen.reachable = true
      yield* TestClock.adjust(2000)
      expect(yield* redis.send("GET")).toBe(10)
      yield* TestClock.adjust("1 minute")
      expect(seen.attempts).toBe(10)
    }))

  it.effect("an attempt that fails closes what it had made of its client", () =>
    Effect.gen(function*() {
      let closed = 0
      const half = Layer.effect(
        Redis.Redis,
        Effect.andThen(Effect.addFinalizer(() => Effect.sync(() => void closed++)), Effect.fail(error("refused")))
      )
      yield* Layer.build(layerBackground(half))
      yield* settle
      expect(closed).toBe(1)
      yield* TestClock.adjust(50)
      expect(closed).toBe(2)
    }))

  it.effect("commands that are given up lead to one PING; without an answer for 2 seconds a new client takes over, and the old one serves until then", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup((client) => client === 1 ? Effect.never : Effect.succeed(client))
      const redis = yield* connect
      const lost = yield* Effect.forEach(
        ["A", "B", "C"],
        (command) => fork(redis.send(command))
      )
      yield* Effect.forEach(lost, Fiber.interrupt)
      yield* settle
      expect(seen.sent).toEqual(["1 A", "1 B", "1 C", "1 PING"])
      yield* TestClock.adjust(1999)
      const last = yield* fork(redis.send("D"))
      expect([seen.attempts, seen.sent.at(-1), seen.closed]).toEqual([1, "1 D", []])
      yield* TestClock.adjust(1)
      expect(yield* redis.send("E")).toBe(2)
      expect([seen.attempts, seen.closed]).toEqual([2, []])
      yield* TestClock.adjust("10 seconds")
      expect([seen.attempts, seen.closed]).toEqual([2, [1]])
      yield* Fiber.interrupt(last)
    }))

  it.effect("while a new client cannot be made, the attempts go on", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup((client) => client === 1 ? Effect.never : Effect.succeed(client))
      const redis = yield* connect
      yield* Fiber.interrupt(yield* fork(redis.send("A")))
      seen.reachable = false
      yield* TestClock.adjust(2000)
      yield* TestClock.adjust(100)
      expect([seen.attempts, seen.closed]).toEqual([3, []])
      seen.reachable = true
      yield* TestClock.adjust(100)
      expect([yield* redis.send("B"), seen.closed]).toEqual([4, []])
      yield* TestClock.adjust("10 seconds")
      expect(seen.closed).toEqual([1])
    }))

  it.effect("a PING that is answered, with an error too, keeps the client, and the next command that is given up is followed by one again", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup((_, command) =>
        command === "PING" ? Effect.fail(error("LOADING")) : Effect.never
      )
      const redis = yield* connect
      const giveUp = Effect.flatMap(
        fork(redis.send("A")),
        (fiber) => Effect.andThen(Fiber.interrupt(fiber), TestClock.adjust("1 minute"))
      )
      yield* giveUp
      yield* giveUp
      expect(seen.sent).toEqual(["1 A", "1 PING", "1 A", "1 PING"])
      expect([seen.attempts, seen.closed]).toEqual([1, []])
    }))

  it.effect("a server that refuses to write is left after a second, and no other error leads to a new client while a PING is answered", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup((client, command) =>
        client > 1 || command === "PING"
          ? Effect.succeed(client)
          : Effect.fail(error(command === "SET" ? "READONLY replica" : "ERR no"))
      )
      const redis = yield* connect
      const script = Redis.script(() => [], { numberOfKeys: 0, lua: "" })
      for (const command of [redis.eval(script)(), redis.send("GET"), Effect.scoped(redis.reserve)]) {
        expect(String((yield* Effect.flip(command)).cause)).not.toContain("READONLY")
      }
      yield* TestClock.adjust("1 minute")
      expect(seen.attempts).toBe(1)
      yield* Effect.flip(redis.send("SET"))
      yield* Effect.flip(redis.send("SET"))
      yield* TestClock.adjust(999)
      expect(seen.attempts).toBe(1)
      yield* TestClock.adjust(1)
      expect([yield* redis.send("SET"), seen.attempts, seen.closed]).toEqual([2, 2, [1]])
    }))

  /** A client that refuses as long as `state` says so, and those that follow, which do not. */
  const refusing = Effect.fnUntraced(function*() {
    const state = { refuses: true }
    const { connect, seen } = yield* setup((client) =>
      client === 1 && state.refuses ? Effect.fail(error("offline")) : Effect.succeed(client)
    )
    return { redis: yield* connect, seen, state }
  })

  it.effect("a client that refuses a command, and a PING a second for 5 seconds, is replaced; an answer in time keeps it", () =>
    Effect.gen(function*() {
      const { redis, seen, state } = yield* refusing()
      yield* Effect.flip(redis.send("A"))
      yield* TestClock.adjust(4999)
      state.refuses = false
      yield* TestClock.adjust("1 minute")
      expect(seen.attempts).toBe(1)
      state.refuses = true
      yield* Effect.flip(redis.send("A"))
      yield* TestClock.adjust(4999)
      yield* Effect.flip(redis.send("B"))
      expect(seen.attempts).toBe(1)
      yield* TestClock.adjust(1)
      expect([yield* redis.send("C"), seen.attempts, seen.closed]).toEqual([2, 2, []])
      // One that is closed while it connects would connect all the same.
      yield* TestClock.adjust(9900)
      expect(seen.closed).toEqual([])
      yield* TestClock.adjust(100)
      expect(seen.closed).toEqual([1])
    }))

  it.effect("a client that is replaced while it connects is closed once it is connected", () =>
    Effect.gen(function*() {
      const { redis, seen, state } = yield* refusing()
      yield* Effect.flip(redis.send("A"))
      yield* TestClock.adjust(5000)
      expect([seen.attempts, seen.closed]).toEqual([2, []])
      state.refuses = false
      yield* TestClock.adjust(100)
      expect(seen.closed).toEqual([1])
    }))

  it.effect("an attempt that takes 10 seconds is given up, and another one follows", () =>
    Effect.gen(function*() {
      let attempts = 0
      const { connect, seen } = yield* setup()
      const inner = yield* connect
      const slow = Layer.effect(
        Redis.Redis,
        Effect.suspend(() => ++attempts === 1 ? Effect.never : Effect.succeed(inner))
      )
      const context = yield* Layer.build(layerBackground(slow))
      const redis = yield* Effect.provideContext(Redis.Redis, context)
      yield* TestClock.adjust(9999)
      expect(attempts).toBe(1)
      yield* TestClock.adjust(1)
      expect(String((yield* Effect.flip(redis.send("GET"))).cause)).toContain("not connected within 10 seconds")
      yield* TestClock.adjust(50)
      expect([yield* redis.send("GET"), attempts, seen.attempts]).toEqual([1, 2, 1])
    }))

  it.effect("a subscription waits for the first client, and a later one is made at the present client", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup((client, command) =>
        client === 1 && !command.startsWith("SUB") ? Effect.never : Effect.succeed(client)
      )
      seen.reachable = false
      const redis = yield* connect
      const waiting = yield* fork(redis.subscribe("a"))
      yield* TestClock.adjust(49)
      expect([seen.sent, waiting.pollUnsafe()]).toEqual([[], undefined])
      seen.reachable = true
      seen.attempts = 0
      yield* TestClock.adjust(1)
      yield* Fiber.join(waiting)
      yield* Fiber.interrupt(yield* fork(redis.send("A")))
      yield* TestClock.adjust(2000)
      yield* redis.subscribe("b")
      // The second `PING` asks whether the client that is replaced connects just then.
      expect(seen.sent).toEqual(["1 SUBSCRIBE a", "1 A", "1 PING", "1 PING", "2 SUBSCRIBE b"])
    }))

  for (const state of ["connecting", "connected"]) {
    it.effect(`a client that is ${state} and never ends holds up the end of the scope for a second`, () =>
      Effect.gen(function*() {
        const stuck = Layer.effect(
          Redis.Redis,
          Effect.gen(function*() {
            yield* Effect.addFinalizer(() => Effect.never)
            return state === "connecting" ? yield* Effect.never : yield* Redis.Redis
          })
        )
        const scope = yield* Scope.make()
        const { seen, connect } = yield* setup()
        const redis = yield* connect
        yield* Layer.build(layerBackground(stuck)).pipe(
          Scope.provide(scope),
          Effect.provideService(Redis.Redis, redis)
        )
        yield* settle
        const closing = yield* fork(Scope.close(scope, Exit.void))
        yield* TestClock.adjust(999)
        expect(closing.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust(1)
        expect(closing.pollUnsafe()).toEqual(Exit.void)
        expect(seen.attempts).toBe(1)
      }))
  }

  it.effect("the end of the scope closes the client and ends all attempts", () =>
    Effect.gen(function*() {
      const { connect, seen } = yield* setup(() => Effect.never)
      const scope = yield* Scope.make()
      const redis = yield* Scope.provide(connect, scope)
      yield* Fiber.interrupt(yield* fork(redis.send("A")))
      yield* Scope.close(scope, Exit.void)
      expect(seen.closed).toEqual([1])
      yield* TestClock.adjust("1 minute")
      expect(seen.attempts).toBe(1)
    }))
})
