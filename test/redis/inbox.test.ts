/**
 * The subscription of a process, over a Redis that a test answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Queue, Scope } from "effect"
import { Redis } from "effect/persistence"
import { TestClock } from "effect/testing"
import * as Inbox from "../../src/internal/redis/inbox.js"
import { fork, settle } from "../support/fibers.ts"

const setup = Effect.gen(function*() {
  const lost = new Redis.RedisError({ cause: new Error("connection lost") })
  const seen = {
    subscribed: [] as Array<string>,
    published: 0,
    echoes: true,
    publishes: true,
    connects: true,
    answers: true
  }
  let queue: Queue.Queue<Redis.RedisMessage, Redis.RedisError>
  const say = (message: string) => Queue.offer(queue, { channel: "", message })
  const redis = Redis.Redis.of({
    ...({} as Redis.Redis["Service"]),
    send: <A>(...words: ReadonlyArray<string>) =>
      Effect.suspend((): Effect.Effect<A, Redis.RedisError> => {
        expect(words.slice(0, 2)).toEqual(["PUBLISH", seen.subscribed[0]])
        seen.published++
        if (!seen.answers) return Effect.never
        if (!seen.publishes) return Effect.fail(lost)
        return Effect.as(seen.echoes ? say(words[2]!) : Effect.void, 1 as A)
      }),
    subscribe: (channel) =>
      Effect.gen(function*() {
        seen.subscribed.push(channel)
        if (!seen.connects) yield* Effect.uninterruptible(Effect.never)
        return queue = yield* Queue.make<Redis.RedisMessage, Redis.RedisError>()
      })
  })
  const scope = yield* Scope.fork(yield* Effect.scope)
  const layer = Layer.provide(Inbox.layer("effect-funnel:1:inbox:"), Layer.succeed(Redis.Redis, redis))
  const inbox = yield* Effect.provideContext(Inbox.RedisInbox, yield* Layer.buildWithScope(layer, scope))
  yield* settle
  const heard: Array<string | undefined> = []
  const token = inbox.add((message) => heard.push(message))
  const heardNow = Effect.map(settle, () => heard.splice(0))
  const lose = Effect.andThen(Effect.suspend(() => Queue.fail(queue, lost)), settle)
  return { heardNow, inbox, lose, say, scope, seen, token }
})

describe("the inbox of a process", () => {
  it.effect("a message reaches the listener whose token it names, until that is removed", () =>
    Effect.gen(function*() {
      const { heardNow, inbox, say, seen, token } = yield* setup
      const others: Array<string | undefined> = []
      const other = inbox.add((message) => others.push(message))
      expect(other).not.toBe(token)
      expect(seen.subscribed).toEqual([inbox.channel])
      expect(inbox.channel).toBe(`effect-funnel:1:inbox:${inbox.node}`)
      yield* say(`${token} a message of words`)
      yield* say("99 for nobody")
      expect([yield* heardNow, others]).toEqual([["a message of words"], []])
      inbox.remove(token)
      yield* say(`${token} late`)
      yield* say(`${other} P`)
      expect([yield* heardNow, others]).toEqual([[], ["P"]])
    }))

  it.effect("when a subscription ends, every listener looks for itself at once, and again when there is a new one", () =>
    Effect.gen(function*() {
      const { heardNow, lose, say, seen, token } = yield* setup
      yield* lose
      expect(yield* heardNow).toEqual([undefined])
      yield* TestClock.adjust(49)
      expect(seen.subscribed.length).toBe(1)
      yield* TestClock.adjust(1)
      expect([yield* heardNow, seen.subscribed.length]).toEqual([[undefined], 2])
      yield* say(`${token} P`)
      expect(yield* heardNow).toEqual(["P"])
    }))

  it.effect("a subscription that ends again and again is made after twice as long each time, 2 seconds at most, until a message comes", () =>
    Effect.gen(function*() {
      const { lose, say, seen } = yield* setup
      const waits: Array<number> = []
      const waitFor = Effect.gen(function*() {
        const { length } = seen.subscribed
        for (let wait = 0;; wait += 10) {
          if (seen.subscribed.length > length) return wait
          yield* TestClock.adjust(10)
        }
      })
      for (let i = 0; i < 8; i++) {
        yield* lose
        waits.push(yield* waitFor)
      }
      expect(waits).toEqual([50, 100, 200, 400, 800, 1600, 2000, 2000])
      yield* say("0 P")
      yield* settle
      yield* lose
      expect(yield* waitFor).toBe(50)
    }))

  it.effect("after 15 seconds without a message the inbox sends itself one, and keeps a subscription that brings it", () =>
    Effect.gen(function*() {
      const { heardNow, say, seen } = yield* setup
      yield* TestClock.adjust(14_999)
      expect(seen.published).toBe(0)
      yield* TestClock.adjust(1)
      expect(seen.published).toBe(1)
      yield* TestClock.adjust("1 minute")
      expect([seen.published, seen.subscribed.length, yield* heardNow]).toEqual([5, 1, []])
      // A message of others is proof enough.
      for (let i = 0; i < 6; i++) {
        yield* say("0 P")
        yield* TestClock.adjust("10 seconds")
      }
      expect([seen.published, seen.subscribed.length]).toEqual([5, 1])
    }))

  it.effect("a subscription that goes dead is made again 18 seconds after its last message, whenever that came", () =>
    Effect.gen(function*() {
      for (const millis of [1, 5000, 14_999, 15_001]) {
        const { say, seen } = yield* setup
        yield* TestClock.adjust(millis)
        yield* say("0 P")
        yield* settle
        seen.echoes = false
        yield* TestClock.adjust(15_000 + 2999)
        expect([millis, seen.subscribed.length]).toEqual([millis, 1])
        yield* TestClock.adjust(1 + 50)
        expect([millis, seen.subscribed.length]).toEqual([millis, 2])
      }
    }))

  it.effect("a subscription that does not bring the inbox's own message within 3 seconds is made again", () =>
    Effect.gen(function*() {
      const { heardNow, seen } = yield* setup
      seen.echoes = false
      yield* TestClock.adjust(15_000 + 2999)
      expect([seen.published, yield* heardNow]).toEqual([1, []])
      yield* TestClock.adjust(1)
      expect(yield* heardNow).toEqual([undefined])
      seen.echoes = true
      yield* TestClock.adjust(50)
      expect([seen.subscribed.length, yield* heardNow]).toEqual([2, [undefined]])
    }))

  it.effect("a message that cannot be sent says nothing about the subscription", () =>
    Effect.gen(function*() {
      const { heardNow, seen } = yield* setup
      seen.publishes = false
      yield* TestClock.adjust("1 minute")
      expect([seen.published, seen.subscribed.length, yield* heardNow]).toEqual([4, 1, []])
    }))

  it.effect("a message that is sent and gets no answer ends no trial: the next one comes", () =>
    Effect.gen(function*() {
      const { heardNow, seen } = yield* setup
      seen.answers = false
      yield* TestClock.adjust(15_000 + 3000)
      seen.answers = true
      seen.echoes = false
      yield* TestClock.adjust(15_000 + 3000)
      expect([seen.published, yield* heardNow]).toEqual([2, [undefined]])
    }))

  it.effect("a subscription that is not made within 10 seconds is left to itself, and another one follows", () =>
    Effect.gen(function*() {
      const { heardNow, lose, say, seen, token } = yield* setup
      seen.connects = false
      yield* lose
      yield* TestClock.adjust(50 + 9999)
      expect([seen.subscribed.length, yield* heardNow]).toEqual([2, [undefined]])
      seen.connects = true
      // It waits a second for the end of the first one, and as long as after any failure.
      yield* TestClock.adjust(1 + 1000 + 100)
      expect([seen.subscribed.length, yield* heardNow]).toEqual([3, [undefined, undefined]])
      yield* say(`${token} P`)
      expect(yield* heardNow).toEqual(["P"])
    }))

  it.effect("a subscription that is never made holds up the end of the scope for a second", () =>
    Effect.gen(function*() {
      const { lose, scope, seen } = yield* setup
      seen.connects = false
      yield* lose
      yield* TestClock.adjust(50)
      expect(seen.subscribed.length).toBe(2)
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(999)
      expect(closing.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust(1)
      expect(closing.pollUnsafe()).toEqual(Exit.void)
    }))
})
