/**
 * What the services of a process ask of Redis in one turn of the event loop goes as one command, over a client that a test
 * answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { Redis } from "effect/persistence"
import { TestClock } from "effect/testing"
import * as Orders from "../../src/internal/redis/orders.js"
import { settle } from "../support/fibers.ts"

type Answer = (words: ReadonlyArray<string>, keys: number) => Effect.Effect<unknown, Redis.RedisError>

const kind = Orders.kind({ keys: ["key"], most: 4, mostWeight: 100, lua: "" })

const refused = (message: string) => Effect.fail(new Redis.RedisError({ cause: new Error(message) }))

const setup = (answer: Answer) =>
  Effect.gen(function*() {
    const seen = { sent: [] as Array<string>, interrupted: 0 }
    // Sound for a test: orders use nothing else of a client.
    const redis = {
      eval: (script: Redis.Script<never>) => (...params: never) =>
        Effect.suspend(() => {
          const words = script.params(...params).map(String)
          seen.sent.push(words.join(" "))
          return Effect.onInterrupt(
            answer(words, script.numberOfKeys(...params)),
            () => Effect.sync(() => void seen.interrupted++)
          )
        })
    } as unknown as Redis.Redis["Service"]
    const orders = yield* Orders.make(kind, redis, 1000)
    const send = (key: string, options: { args?: ReadonlyArray<string | number>; weight?: number } = {}) =>
      orders.send("do", [key], options.args ?? [], (reply) => reply, options.weight)
    const fork = (...params: Parameters<typeof send>) =>
      Effect.forkChild(Effect.exit(send(...params)), { startImmediately: true })
    return { fork, orders, seen, send }
  })

const each: Answer = (words, keys) => Effect.succeed(words.slice(0, keys).map((key) => [key]))

const errorOf = (exit: Exit.Exit<unknown, unknown>) => Exit.isFailure(exit) ? String(exit.cause) : "no error"

describe("orders", () => {
  it.effect("those of one turn go as one command, in their order, and each gets its own reply", () =>
    Effect.gen(function*() {
      const { seen, send } = yield* setup(each)
      const replies = yield* Effect.all([send("a"), send("b"), send("a")], { concurrency: "unbounded" })
      expect(replies).toEqual([["a"], ["b"], ["a"]])
      expect(seen.sent).toEqual(["a b a do 0 = ="])
    }))

  it.effect("arguments go once as long as they stay the same", () =>
    Effect.gen(function*() {
      const { orders, seen } = yield* setup(each)
      const send = (name: string, ...args: ReadonlyArray<string | number>) => orders.send(name, ["k"], args, String)
      yield* Effect.all(
        [send("x", 1, 2), send("x", 1, 2), send("y", 1, 2), send("y", 1, 2, 3)],
        { concurrency: "unbounded" }
      )
      expect(seen.sent).toEqual(["k k k k x 2 1 2 = y 2 1 2 y 3 1 2 3"])
    }))

  it.effect("a command has no more orders and no more weight than its kind allows, but a heavy order goes alone", () =>
    Effect.gen(function*() {
      const { seen, send } = yield* setup(each)
      yield* Effect.all(
        [
          ...["a", "b", "c", "d", "e"].map((key) => send(key)),
          send("f", { weight: 99 }),
          send("g", { weight: 2 }),
          send("h", { weight: 1000 }),
          send("i")
        ],
        { concurrency: "unbounded" }
      )
      expect(seen.sent.map((words) => words.replace(/ do.*/, ""))).toEqual(["a b c d", "e f", "g", "h", "i"])
    }))

  it.effect("16 commands are on their way at most, and the time of the others has not begun", () =>
    Effect.gen(function*() {
      const { fork, seen } = yield* setup(() => Effect.delay(Effect.succeed([[1], [1], [1], [1]]), 900))
      const sent = yield* Effect.forEach(Array.from({ length: 4 * 40 }, (_, i) => String(i)), (key) => fork(key))
      yield* settle
      expect(seen.sent.length).toBe(16)
      yield* TestClock.adjust(900)
      yield* TestClock.adjust(900)
      expect(seen.sent.length).toBe(40)
      yield* TestClock.adjust(900)
      for (const fiber of sent) expect(Exit.isSuccess(yield* Fiber.join(fiber))).toBe(true)
    }))

  it.effect("one that is interrupted before it goes is not sent, and with no order left there is no command", () =>
    Effect.gen(function*() {
      const { fork, seen } = yield* setup(each)
      const [a, b] = [yield* fork("a"), yield* fork("b")]
      yield* Fiber.interrupt(a)
      expect(Exit.isSuccess(yield* Fiber.join(b))).toBe(true)
      yield* Fiber.interrupt(yield* fork("c"))
      yield* settle
      expect(seen).toEqual({ sent: ["b do 0"], interrupted: 0 })
    }))

  it.effect("a command goes on while one of its orders is waited for, and is given up with the last", () =>
    Effect.gen(function*() {
      const { fork, seen } = yield* setup(() => Effect.never)
      const [first, second, third] = [yield* fork("a"), yield* fork("b"), yield* fork("c")]
      yield* settle
      yield* Fiber.interrupt(third)
      yield* Fiber.interrupt(first)
      yield* settle
      expect(seen).toEqual({ sent: ["a b c do 0 = ="], interrupted: 0 })
      yield* Fiber.interrupt(second)
      yield* settle
      expect(seen.interrupted).toBe(1)
    }))

  it.effect("an order with a callback that is given up is answered no more, and the others of its command are", () =>
    Effect.gen(function*() {
      const { orders, seen } = yield* setup((...args) => Effect.delay(each(...args), 10))
      const heard: Array<unknown> = []
      const send = (key: string) => orders.sendUnsafe("do", [key], [], String, 1, (exit) => heard.push([key, exit]))
      const [early, , late] = [send("a"), send("b"), send("c")]
      early()
      yield* settle
      late()
      yield* TestClock.adjust(10)
      expect(seen).toEqual({ sent: ["b c do 0 ="], interrupted: 0 })
      expect(heard).toEqual([["b", Exit.succeed("b")]])
      send("d")()
      yield* settle
      expect(seen.sent.length).toBe(1)
    }))

  it.effect("a command without an answer fails all its orders, each with its operation", () =>
    Effect.gen(function*() {
      const { fork, seen } = yield* setup(() => Effect.never)
      const late = [yield* fork("a"), yield* fork("b")]
      yield* settle
      yield* TestClock.adjust(999)
      expect(late.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined])
      yield* TestClock.adjust(1)
      for (const fiber of late) {
        expect(errorOf(yield* Fiber.join(fiber))).toContain("store command `do` failed: no answer within 1000 ms")
      }
      expect(seen.interrupted).toBe(1)
    }))

  it.effect("what waited for its turn while another command failed fails with it, and the next one is sent", () =>
    Effect.gen(function*() {
      let isAway = true
      const { fork, seen, send } = yield* setup((...args) => isAway ? Effect.delay(refused("away"), 10) : each(...args))
      const sent = yield* Effect.forEach(Array.from({ length: 4 * 20 }, (_, i) => String(i)), (key) => fork(key))
      yield* settle
      yield* TestClock.adjust(10)
      for (const fiber of sent) expect(errorOf(yield* Fiber.join(fiber))).toContain("away")
      expect(seen.sent.length).toBe(16)
      isAway = false
      expect(yield* send("again")).toEqual(["again"])
    }))

  it.effect("a text that begins with a minus is the failure of its order alone", () =>
    Effect.gen(function*() {
      const { fork } = yield* setup(() => Effect.succeed([[1], "-WRONGTYPE of b", "three"]))
      const [a, b, c] = [yield* fork("a"), yield* fork("b"), yield* fork("c")]
      expect([yield* Fiber.join(a), yield* Fiber.join(c)]).toEqual([Exit.succeed([1]), Exit.succeed("three")])
      expect(errorOf(yield* Fiber.join(b))).toContain("store command `do` failed: WRONGTYPE of b")
    }))

  it.effect("an answer that has not one reply for each order fails them all, and so does a client that dies", () =>
    Effect.gen(function*() {
      for (const answer of [null, undefined, [], [[1]], [[1], [2], [3]], "OK", { 0: [1], 1: [2], length: 2 }]) {
        const { fork } = yield* setup(() => Effect.succeed(answer))
        const both = [yield* fork("a"), yield* fork("b")]
        for (const fiber of both) expect(errorOf(yield* Fiber.join(fiber))).toContain("expected 2 replies")
      }
      const dying: ReadonlyArray<Answer> = [
        () => Effect.die(new Error("broken")),
        () => {
          throw new Error("broken")
        }
      ]
      for (const answer of dying) {
        const { fork } = yield* setup(answer)
        const both = [yield* fork("a"), yield* fork("b")]
        for (const fiber of both) {
          expect(errorOf(yield* Fiber.join(fiber))).toContain("store command `do` failed: broken")
        }
      }
    }))

  it.effect("a client that interrupts itself fails the orders and interrupts nobody", () =>
    Effect.gen(function*() {
      const { fork } = yield* setup(() => Effect.interrupt)
      const both = [yield* fork("a"), yield* fork("b")]
      for (const fiber of both) expect(errorOf(yield* Fiber.join(fiber))).toContain("store command `do` failed")
    }))

  it.effect("a reply that its caller cannot read is a defect of that caller", () =>
    Effect.gen(function*() {
      const { fork, orders } = yield* setup(each)
      const bad = yield* Effect.forkChild(
        Effect.exit(orders.send("do", ["bad"], [], () => {
          throw new Error("unreadable")
        })),
        { startImmediately: true }
      )
      const good = yield* fork("good")
      expect(errorOf(yield* Fiber.join(bad))).toContain("unreadable")
      expect(yield* Fiber.join(good)).toEqual(Exit.succeed(["good"]))
    }))

  it.effect("a caller whose observer throws keeps no other one from its reply", () =>
    Effect.gen(function*() {
      for (const answer of [each, () => refused("away")]) {
        const { fork } = yield* setup(answer)
        const first = yield* fork("a")
        first.addObserver(() => {
          throw new Error("an observer")
        })
        const second = yield* fork("b")
        yield* settle
        expect(second.pollUnsafe()).not.toBe(undefined)
      }
    }))

  it.effect("a cluster gets each order of a refused command alone, in order, and from then on those of a hash tag together", () =>
    Effect.gen(function*() {
      const tag = (key: string) => key.slice(0, key.indexOf("}"))
      const { fork, seen, send } = yield* setup((words, keys) =>
        new Set(words.slice(0, keys).map(tag)).size > 1
          ? refused("CROSSSLOT Keys in request don't hash to the same slot")
          : each(words, keys)
      )
      const all = ["{a}1", "{b}1", "{a}2"]
      const together = Effect.forEach(all, (key) => send(key), { concurrency: "unbounded" })
      expect(yield* together).toEqual(all.map((key) => [key]))
      expect(seen.sent.splice(0)).toEqual(["{a}1 {b}1 {a}2 do 0 = =", "{a}1 do 0", "{b}1 do 0", "{a}2 do 0"])
      const left = yield* fork("{c}")
      yield* Fiber.interrupt(left)
      expect(yield* together).toEqual(all.map((key) => [key]))
      expect(seen.sent).toEqual(["{a}1 {a}2 do 0 =", "{b}1 do 0"])
    }))

  it.effect("an order that a cluster refuses alone fails", () =>
    Effect.gen(function*() {
      const { fork, seen } = yield* setup(() => refused("CROSSSLOT"))
      const both = [yield* fork("{a}"), yield* fork("{b}")]
      for (const fiber of both) expect(errorOf(yield* Fiber.join(fiber))).toContain("CROSSSLOT")
      expect(seen.sent.length).toBe(3)
    }))

  it.effect("a cluster has 256 commands on their way at most", () =>
    Effect.gen(function*() {
      let isFirst = true
      const { fork, seen } = yield* setup(() => {
        if (!isFirst) return Effect.never
        isFirst = false
        return refused("CROSSSLOT")
      })
      yield* Effect.all([fork("{a}"), fork("{b}")])
      yield* settle
      yield* Effect.forEach(Array.from({ length: 300 }, (_, i) => `{${i}}`), (key) => fork(key))
      yield* settle
      expect(seen.sent.length).toBe(1 + 256)
    }))
})
