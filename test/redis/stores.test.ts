import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type { Cell } from "../../src/internal/store/gcraStore.js"
import type { Joined, Party, ReducerStore, Signal } from "../../src/internal/store/reducerStore.js"
import * as GcraStore from "../../src/internal/redis/gcraStore.js"
import * as Orders from "../../src/internal/redis/orders.js"
import * as PermitStore from "../../src/internal/redis/permitStore.js"
import * as RedisStore from "../../src/internal/redis/reducerStore.js"
import { live } from "../support/live.js"
import { connected, layerClient } from "../support/redisClient.js"
import { hasRedis, type RedisServer, redisServerOfFile } from "../support/redisServer.js"

const emptied = redisServerOfFile({ afterAll, beforeAll })

const party = (store: ReducerStore) => {
  const signals: Array<Signal> = []
  const waiting: Array<() => void> = []
  const self: Party = store.open((signal) => {
    signals.push(signal)
    for (const wake of waiting.splice(0)) wake()
  })
  const signalled = Effect.callback<Signal>((resume) => {
    const done = () => resume(Effect.sync(() => signals.shift()!))
    if (signals.length > 0) done()
    else waiting.push(done)
  }).pipe(Effect.timeout("5 seconds"), Effect.orDie)
  return Object.assign(self, { store, signalled, signals })
}

const leads = (joined: Joined): number => {
  expect(joined._tag).toBe("Lead")
  return joined.fence
}

const subscribed = (server: RedisServer, count: number) =>
  Effect.gen(function*() {
    for (let i = 0; i < 200; i++) {
      const channels = yield* Effect.promise(() => server.command("PUBSUB", "CHANNELS"))
      if (channels.startsWith(`*${count}\r\n`)) return
      yield* Effect.sleep(10)
    }
    throw new Error("no subscription")
  })

describe.skipIf(!hasRedis)("ReducerStore over Redis", () => {
  const two = (options: { leaseMillis?: number; retainMillis?: number; prefix?: string } = {}) =>
    Effect.gen(function*() {
      const server = yield* emptied
      const make = Effect.gen(function*() {
        const { inbox, redis } = yield* connected(server.url)
        return party(RedisStore.make(yield* Orders.make(RedisStore.kind, redis, 1000), inbox, {
          prefix: options.prefix ?? "t:",
          leaseMillis: options.leaseMillis ?? 5000,
          retainMillis: options.retainMillis ?? 10_000
        }))
      })
      const a = yield* make
      const b = yield* make
      yield* subscribed(server, 2)
      // A new subscription wakes every waiter once.
      yield* a.signalled
      yield* b.signalled
      return { server, a, b, make }
    })

  live("The first caller leads, the second follows and receives the result", function*() {
    const { a, b } = yield* two()
    const fence = leads(yield* a.store.join("k", a, undefined))
    const followed = yield* b.store.join("k", b, undefined)
    expect(followed).toMatchObject({ _tag: "Follow", fence })
    expect(yield* a.store.complete("k", a, fence, "résultat\n{}")).toBe(true)
    expect(yield* b.signalled).toEqual({ _tag: "Done", fence, payload: "résultat\n{}" })
  })

  live("No result is kept without waiters, and a newcomer never gets a kept result", function*() {
    const { a, b, server } = yield* two()
    const first = leads(yield* a.store.join("k", a, undefined))
    expect(yield* a.store.complete("k", a, first, "1")).toBe(true)
    expect(yield* Effect.promise(() => server.command("DBSIZE"))).toBe(":0\r\n")
    const second = leads(yield* a.store.join("k", a, undefined))
    expect(second).toBeGreaterThan(first)
    yield* b.store.join("k", b, undefined)
    yield* a.store.complete("k", a, second, "2")
    expect(yield* b.store.join("k", b, second)).toEqual({ _tag: "Done", fence: second, payload: "2" })
    const third = leads(yield* b.store.join("k", b, undefined))
    expect(third).toBeGreaterThan(second)
    // A follower of the second run that lost its wake-up still finds the result. The third run has not ended.
    expect(yield* a.store.join("k", a, second)).toMatchObject({ _tag: "Done", fence: second })
    expect(yield* a.store.join("k", a, third)).toMatchObject({ _tag: "Follow", fence: third })
  })

  live("A kept result expires after `retain`, even while its key is in use", function*() {
    const { a, b, server } = yield* two({ retainMillis: 100, leaseMillis: 5000 })
    const fence = leads(yield* a.store.join("k", a, undefined))
    yield* b.store.join("k", b, undefined)
    yield* a.store.complete("k", a, fence, "secret")
    leads(yield* a.store.join("k", a, undefined))
    yield* Effect.sleep(120)
    expect((yield* b.store.join("k", b, fence))._tag).toBe("Follow")
    expect(yield* Effect.promise(() => server.command("HEXISTS", "{t:k}:f", "rval"))).toBe(":0\r\n")
  })

  live("Every command may run twice: a lost reply changes nothing", function*() {
    const { a, b } = yield* two()
    const fence = leads(yield* a.store.join("k", a, undefined))
    expect(leads(yield* a.store.join("k", a, undefined))).toBe(fence)
    yield* b.store.join("k", b, undefined)
    yield* b.store.join("k", b, undefined)
    expect(yield* a.store.renew("k", a, fence)).toBe(true)
    expect(yield* a.store.renew("k", a, fence)).toBe(true)
    expect(yield* a.store.complete("k", a, fence, "1")).toBe(true)
    expect(yield* a.store.complete("k", a, fence, "1")).toBe(true)
    yield* b.signalled
    expect(b.signals).toEqual([])
    yield* a.store.release("k", a)
    yield* a.store.release("k", a)
    expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Done", payload: "1" })
    const lone = leads(yield* a.store.join("lone", a, undefined))
    expect(yield* a.store.complete("lone", a, lone, "1")).toBe(true)
    expect(yield* a.store.complete("lone", a, lone, "1")).toBe(true)
  })

  live("A fence is larger than all that its process has seen, also where the server's clock is behind", function*() {
    const { a, server } = yield* two()
    const ahead = leads(yield* a.store.join("k", a, undefined)) + 60_000_000
    yield* Effect.promise(() => server.command("HSET", "{t:k}:f", "fence", String(ahead), "owner", "", "until", "0"))
    expect(leads(yield* a.store.join("k", a, undefined))).toBe(ahead + 1)
    expect(leads(yield* a.store.join("other", a, undefined))).toBe(ahead + 2)
  })

  live("A fence that nobody can have been given is not believed for other keys", function*() {
    const { a, server } = yield* two()
    const first = leads(yield* a.store.join("k", a, undefined))
    yield* Effect.promise(() =>
      server.command("HSET", "{t:k}:f", "fence", "9000000000000000", "owner", "", "until", "0")
    )
    leads(yield* a.store.join("k", a, undefined))
    expect(leads(yield* a.store.join("other", a, undefined))).toBeLessThan(first + 60_000_000)
  })

  live("The new leader's result is kept for the leader that lost the lease", function*() {
    const { a, b } = yield* two({ leaseMillis: 250 })
    const old = leads(yield* a.store.join("k", a, undefined))
    yield* Effect.sleep(260)
    const fence = leads(yield* b.store.join("k", b, undefined))
    yield* b.store.complete("k", b, fence, "fresh")
    expect(yield* a.store.join("k", a, old)).toEqual({ _tag: "Done", fence, payload: "fresh" })
  })

  live("SCRIPT FLUSH has no effect, and after FLUSHALL the leader's renewal restores its lease", function*() {
    const { a, b, server } = yield* two()
    const fence = leads(yield* a.store.join("k", a, undefined))
    yield* Effect.promise(() => server.command("SCRIPT", "FLUSH"))
    expect(yield* a.store.renew("k", a, fence)).toBe(true)
    yield* Effect.promise(() => server.command("FLUSHALL"))
    expect(yield* a.store.renew("k", a, fence)).toBe(true)
    expect(yield* b.store.join("k", b, undefined)).toMatchObject({ _tag: "Follow", fence })
    yield* Effect.promise(() => server.command("FLUSHALL"))
    // The store has lost the waiters, so the result is kept for those that ask again.
    expect(yield* a.store.complete("k", a, fence, "1")).toBe(true)
    expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Done", payload: "1" })
  })

  live("Payloads of any size and keys of any text arrive; large payloads need a second request", function*() {
    const { a, b } = yield* two({ prefix: "}{p\n:" })
    for (
      const [key, size] of [["}", 0], ["a\nb", 16_383], ["{é}", 16_384], ["🦉", 16_385], ["", 1_000_000]] as const
    ) {
      const payload = "é".repeat(size / 2) + "x".repeat(size % 2)
      const fence = leads(yield* a.store.join(key, a, undefined))
      yield* b.store.join(key, b, undefined)
      yield* a.store.complete(key, a, fence, payload)
      const signal = yield* b.signalled
      expect(signal).toEqual({ _tag: "Done", fence, payload: size <= 16_384 ? payload : undefined })
      expect(yield* b.store.join(key, b, fence)).toEqual({ _tag: "Done", fence, payload })
    }
  })

  live("Where Redis has no memory left, who waits for a run goes on waiting, and gets its result", function*() {
    const { a, b, server } = yield* two()
    const config = (memory: string) => Effect.promise(() => server.command("CONFIG", "SET", "maxmemory", memory))
    const fence = leads(yield* a.store.join("k", a, undefined))
    yield* b.store.join("k", b, undefined)
    yield* Effect.gen(function*() {
      expect(yield* config("1")).toBe("+OK\r\n")
      expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Follow", fence })
      expect(String(yield* Effect.flip(a.store.join("new", a, undefined)))).toContain("OOM")
      expect(yield* a.store.complete("k", a, fence, "1")).toBe(true)
      expect(yield* b.signalled).toMatchObject({ _tag: "Done", fence })
      expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Done", payload: "1" })
    }).pipe(Effect.ensuring(config("0")))
  })

  live("Of large results that are fetched at once each one takes a script, and all arrive", function*() {
    const { a, b } = yield* two()
    const keys = Array.from({ length: 8 }, (_, i) => `k${i}`)
    const fences = new Map<string, number>()
    for (const key of keys) {
      const fence = leads(yield* a.store.join(key, a, undefined))
      yield* b.store.join(key, b, undefined)
      yield* a.store.complete(key, a, fence, key.repeat(100_000))
      fences.set(key, fence)
    }
    for (let left = keys; left.length > 0;) {
      const joined = yield* Effect.forEach(left, (key) => b.store.join(key, b, fences.get(key)), {
        concurrency: "unbounded"
      })
      const done = joined.filter((_) => _._tag === "Done")
      expect(done.map(({ payload }) => payload === left[0]!.repeat(100_000))).toEqual([true])
      // The others are told to come again.
      for (const other of joined.slice(1)) expect(other).toMatchObject({ _tag: "Follow", restMillis: 0 })
      left = left.slice(1)
    }
  })

  live("A result may be kept for a century", function*() {
    const { a, b } = yield* two({ retainMillis: 100 * 365 * 86_400_000 })
    const fence = leads(yield* a.store.join("k", a, undefined))
    yield* b.store.join("k", b, undefined)
    yield* a.store.complete("k", a, fence, "1")
    expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Done", payload: "1" })
  })

  live("Every key has a time to live", function*() {
    const { a, b, server } = yield* two()
    yield* a.store.join("k", a, undefined)
    yield* b.store.join("k", b, undefined)
    for (const key of ["{t:k}:f", "{t:k}:w"]) {
      const ttl = yield* Effect.promise(() => server.command("PTTL", key))
      expect(Number(ttl.slice(1))).toBeGreaterThan(1000)
    }
  })

  live("A lease left by a clock that was ahead blocks for one lease at most", function*() {
    const { a, b, server } = yield* two({ leaseMillis: 100 })
    const old = leads(yield* a.store.join("k", a, undefined))
    // The state after the server's clock steps back by 30 s.
    const ahead = String(old + 30_000_000)
    yield* Effect.promise(() => server.command("HSET", "{t:k}:f", "until", ahead, "fence", ahead))
    const followed = yield* b.store.join("k", b, undefined)
    expect(followed._tag === "Follow" && followed.restMillis <= 100).toBe(true)
    yield* Effect.sleep(110)
    expect(leads(yield* b.store.join("k", b, undefined))).toBe(old + 30_000_001)
  })

  live("After a lost subscription, the next one asks again for the lost wake-up", function*() {
    const { a, b, server } = yield* two()
    const fence = leads(yield* a.store.join("k", a, undefined))
    yield* b.store.join("k", b, undefined)
    yield* Effect.promise(() => server.command("CLIENT", "KILL", "TYPE", "pubsub"))
    yield* a.store.complete("k", a, fence, "1")
    expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Done", payload: "1" })
    yield* Effect.sleep(50)
    yield* subscribed(server, 2)
    b.signals.length = 0
    const next = leads(yield* a.store.join("k", a, undefined))
    yield* b.store.join("k", b, undefined)
    yield* a.store.complete("k", a, next, "2")
    expect(yield* b.signalled).toMatchObject({ _tag: "Done", fence: next })
  })

  live("A client that can only publish cannot forge a result, nor wake a process", function*() {
    const { a, b, server } = yield* two()
    expect(
      yield* Effect.promise(() =>
        server.command("ACL", "SETUSER", "publisher", "on", ">pw", "allchannels", "resetkeys", "-@all", "+publish")
      )
    ).toBe("+OK\r\n")
    const fence = leads(yield* a.store.join("k", a, undefined))
    yield* b.store.join("k", b, undefined)
    const channels = (yield* Effect.promise(() => server.command("PUBSUB", "CHANNELS"))).split("\r\n")
      .filter((_) => _.startsWith("effect-funnel"))
    expect(channels.length).toBe(2)
    const publisher = yield* Layer.build(Layer.fresh(layerClient(server.url.replace("//", "//publisher:pw@"))))
    const { send } = Context.get(publisher, Redis.Redis)
    for (const channel of channels) {
      const tokens = ["", "0", "1", "2", channel.split(":").at(-1)!, "k", "*"]
      for (const token of tokens) yield* send("PUBLISH", channel, `${token} D 4000000000000000 "forged"`)
    }
    expect(String((yield* Effect.flip(send("HGETALL", "{t:k}:f"))).cause)).toContain("NOPERM")
    yield* a.store.complete("k", a, fence, "1")
    expect(yield* b.signalled).toEqual({ _tag: "Done", fence, payload: "1" })
    expect([a.signals, b.signals]).toEqual([[], []])
    // A token has 128 random bits, and no two are related.
    const tokens = Array.from({ length: 1000 }, () => a.store.open(() => {}).owner.split(".")[1]!)
    expect(new Set(tokens).size).toBe(1000)
    for (const token of tokens) expect(token).toMatch(/^(\w{1,7}-){3}\w{1,7}$/)
  })

  live("What a foreign client has written holds up a key for an hour at most, and gives nobody a fence", function*() {
    const { a, b, server } = yield* two()
    const write = (...fields: ReadonlyArray<string>) =>
      Effect.promise(() => server.command("HSET", "{t:k}:f", ...fields))
    yield* write("owner", "x", "fence", "9007199254740993", "until", "9e15", "lease", "9e15")
    const followed = yield* a.store.join("k", a, undefined)
    expect(followed._tag === "Follow" && followed.restMillis <= 5000).toBe(true)
    yield* write("until", "nonsense", "rexp", "nonsense", "rfence", "inf")
    const fence = leads(yield* b.store.join("k", b, 5))
    expect(fence).toBeLessThan((Date.now() + 60_000) * 1000)
    expect(yield* b.store.renew("k", b, fence)).toBe(true)
    expect(yield* b.store.complete("k", b, fence, "1")).toBe(true)
  })

  live("Who follows a fence that nobody can have been given leads when the lease ends", function*() {
    const { a, server } = yield* two({ leaseMillis: 50 })
    leads(yield* a.store.join("k", a, undefined))
    yield* Effect.promise(() => server.command("HSET", "{t:k}:f", "owner", "x", "fence", "9007199254740993"))
    const { fence } = yield* a.store.join("k", a, undefined)
    yield* Effect.sleep(60)
    leads(yield* a.store.join("k", a, fence))
  })

  live("One script wakes 250 processes, of however many flights, and all are woken in the end", function*() {
    const { a, server } = yield* two()
    const keys = Array.from({ length: 10 }, (_, i) => `k${i}`)
    const fences = yield* Effect.forEach(keys, (key) => Effect.map(a.store.join(key, a, undefined), leads))
    for (const key of keys) {
      const others = Array.from({ length: 200 }, (_, i) => `${i} nowhere`)
      yield* Effect.promise(() => server.command("SADD", `{t:${key}}:w`, ...others))
    }
    yield* Effect.promise(() => server.command("CONFIG", "RESETSTAT"))
    const complete = Effect.forEach(keys, (key, i) => a.store.complete(key, a, fences[i]!, "x".repeat(16_000)), {
      concurrency: "unbounded"
    })
    expect(yield* complete).toEqual(keys.map(() => true))
    const stats = yield* Effect.promise(() => server.command("INFO", "commandstats"))
    expect(stats).toContain("cmdstat_publish:calls=2000,")
    expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)![1])).toBeGreaterThanOrEqual(2000 / 250)
    for (const key of keys) {
      expect(yield* Effect.promise(() => server.command("EXISTS", `{t:${key}}:w`))).toBe(":0\r\n")
    }
  })

  live("A leader that releases wakes a waiter, however many the same command has woken", function*() {
    const { a, b, server } = yield* two()
    const fence = leads(yield* a.store.join("k", a, undefined))
    leads(yield* a.store.join("l", a, undefined))
    yield* b.store.join("l", b, undefined)
    const others = Array.from({ length: 400 }, (_, i) => `${i} nowhere`)
    yield* Effect.promise(() => server.command("SADD", "{t:k}:w", ...others))
    yield* Effect.all([a.store.complete("k", a, fence, "1"), a.store.release("l", a)], { concurrency: "unbounded" })
    expect(yield* b.signalled).toEqual({ _tag: "Retry" })
  })

  live("A result is published, however many the same command has woken before a leader that releases", function*() {
    const { a, b, server } = yield* two()
    const [k, , m] = yield* Effect.forEach(["k", "l", "m"], (key) => Effect.map(a.store.join(key, a, undefined), leads))
    const others = Array.from({ length: 400 }, (_, i) => `${i} nowhere`)
    for (const key of ["k", "l"]) yield* Effect.promise(() => server.command("SADD", `{t:${key}}:w`, ...others))
    yield* b.store.join("m", b, undefined)
    const exits = yield* Effect.all([
      a.store.complete("k", a, k!, "1"),
      a.store.release("l", a),
      a.store.complete("m", a, m!, "2")
    ], { concurrency: "unbounded" })
    expect(exits).toEqual([true, undefined, true])
    expect(yield* b.signalled).toMatchObject({ _tag: "Done", fence: m })
  })

  live("What is wrong with one flight fails no other one of the same turn", function*() {
    const { a, server } = yield* two()
    yield* Effect.promise(() => server.command("SET", "{t:bad}:f", "x"))
    const exits = yield* Effect.forEach(
      ["a", "bad", "b"],
      (key) => Effect.exit(a.store.join(key, a, undefined)),
      { concurrency: "unbounded" }
    )
    expect(exits.map((exit) => exit._tag)).toEqual(["Success", "Failure", "Success"])
    expect(String(exits[1])).toContain("store command `join` failed: WRONGTYPE")
  })

  live("More waiting processes than one script wakes are all woken", function*() {
    const { a, b, server } = yield* two()
    const fence = leads(yield* a.store.join("k", a, undefined))
    const others = Array.from({ length: 2500 }, (_, i) => `${i} nowhere`)
    yield* Effect.promise(() => server.command("SADD", "{t:k}:w", ...others))
    yield* b.store.join("k", b, undefined)
    expect(yield* a.store.complete("k", a, fence, "x".repeat(1000))).toBe(true)
    // With so many, the result is fetched.
    expect(yield* b.signalled).toEqual({ _tag: "Done", fence, payload: undefined })
    expect(yield* Effect.promise(() => server.command("EXISTS", "{t:k}:w"))).toBe(":0\r\n")
    expect(yield* b.store.join("k", b, fence)).toMatchObject({ _tag: "Done", payload: "x".repeat(1000) })
  })
})

it.effect("Equal requests in a row are sent as their number and their tokens", () =>
  Effect.gen(function*() {
    const sent: Array<unknown> = []
    // Sound for a test: the store calls nothing else.
    const redis = {
      eval: (script: Redis.Script<never>) => (...params: never) =>
        Effect.sync(() => (sent.push(script.params(...params)), ["0,0,0,1 2,,"]))
    } as unknown as Redis.Redis["Service"]
    const orders = yield* Orders.make(GcraStore.kind, redis, 1000)
    const store = GcraStore.make(orders, { prefix: "t:", cells: [{ intervalMicros: 7, burst: 9 }] })
    yield* store.take("k", [1, 1, 1, 2, 1], 5)
    expect(sent).toEqual([["{t:k}:r", "take", 10, 1, 7, 9, 5000, 3, 1, 1, 2, 1, 1]])
  }))

describe.skipIf(!hasRedis)("GcraStore over Redis", () => {
  const one = (...cells: ReadonlyArray<Cell>) =>
    Effect.gen(function*() {
      const server = yield* emptied
      const { redis } = yield* connected(server.url)
      const orders = yield* Orders.make(GcraStore.kind, redis, 1000)
      return { server, orders, store: GcraStore.make(orders, { prefix: "t:", cells }) }
    })

  live("take grants a burst at once and then one per interval, n in one call", function*() {
    const { store } = yield* one({ intervalMicros: 1_000_000, burst: 3 })
    const { remaining, resetMillis, retryMillis, waits } = yield* store.take("k", [1, 1, 1, 1, 1], 2000)
    expect(resetMillis).toBe(5000)
    expect(waits.slice(0, 3)).toEqual([0, 0, 0])
    expect(waits[3]).toBe(1000)
    expect(waits[4]).toBe(2000)
    expect(remaining).toBe(0)
    expect(retryMillis).toBe(0)
    const refused = yield* store.take("k", [1, 1], 0)
    expect(refused.waits).toEqual([])
    expect(refused.retryMillis).toBeGreaterThan(2000)
    expect(refused.retryMillis).toBeLessThanOrEqual(3000)
  })

  live("A refusal consumes nothing and its retry time is exact", function*() {
    const { store } = yield* one({ intervalMicros: 500_000, burst: 1 })
    yield* store.take("k", [1], 0)
    const { retryMillis } = yield* store.take("k", [1], 0)
    for (let i = 0; i < 20; i++) yield* store.take("k", [1], 0)
    yield* Effect.sleep(Math.ceil(retryMillis))
    expect((yield* store.take("k", [1], 0)).waits).toEqual([0])
  })

  live("Fractional intervals do not drift, and a key at rest is removed", function*() {
    const { server, store } = yield* one({ intervalMicros: 1_000_000 / 3, burst: 1 })
    const { waits } = yield* store.take("k", Array.from({ length: 1000 }, () => 1), 1e9)
    expect(Math.abs(waits[999]! - 333_000)).toBeLessThan(0.01)
    yield* store.reset("k")
    expect(yield* Effect.promise(() => server.command("DBSIZE"))).toBe(":0\r\n")
    yield* store.take("k", [1], 0)
    const ttl = yield* Effect.promise(() => server.command("PTTL", "{t:k}:r"))
    expect(Number(ttl.slice(1))).toBeGreaterThan(1000)
  })

  live("The last grant is returned once, and not at all if others have taken tokens since", function*() {
    const { server, store } = yield* one({ intervalMicros: 1_000_000, burst: 3 }, {
      intervalMicros: 500_000,
      burst: 8
    })
    const first = yield* store.take("k", [1, 1, 1, 1, 1], 10_000)
    expect([first.before, first.waits]).toEqual(["", [0, 0, 0, 1000, 2000]])
    const second = yield* store.take("k", [1, 1], 10_000)
    expect(second.before).toBe(first.after)
    // A grant that is not the last one stays.
    yield* store.giveBack("k", 5, first.after)
    expect((yield* store.take("k", [1], 0)).before).toBe(second.after)
    yield* store.giveBack("k", 3, second.after)
    yield* store.giveBack("k", 3, second.after)
    const { waits } = yield* store.take("k", [1, 1, 1], 10_000)
    expect(Math.round(waits[0]! / 1000)).toBe(2)
    expect(Math.round(waits[2]! / 1000)).toBe(4)
    const refused = yield* store.take("k", [1], 0)
    expect(refused.after).toBe(refused.before)
    const ttl = yield* Effect.promise(() => server.command("PTTL", "{t:k}:r"))
    expect(Number(ttl.slice(1))).toBeGreaterThan(1000)
    // Returning more than the debt leaves zero debt, never a credit.
    yield* store.giveBack("k", 100, refused.after)
    expect((yield* store.take("k", [1, 1, 1, 1], 10_000)).waits.map(Math.round)).toEqual([0, 0, 0, 1000])
  })

  live("penalize delays every caller for the given time, reset clears the debt", function*() {
    const { store } = yield* one({ intervalMicros: 1000, burst: 10 })
    yield* store.penalize("k", 5000)
    const { retryMillis, waits } = yield* store.take("k", [1], 0)
    expect(waits).toEqual([])
    expect(retryMillis).toBeGreaterThan(4000)
    yield* store.reset("k")
    expect((yield* store.take("k", [10], 0)).waits).toEqual([0])
  })

  const together = { concurrency: "unbounded" } as const

  live("Takes of one turn are one command, and each key grants in the order of its calls", function*() {
    const { server, store } = yield* one({ intervalMicros: 1_000_000, burst: 2 })
    yield* store.take("warm", [1], 0)
    yield* Effect.promise(() => server.command("CONFIG", "RESETSTAT"))
    const waits = yield* Effect.forEach(
      ["a", "b", "a", "b", "a", "b"],
      (key) => Effect.map(store.take(key, [1], 1500), ({ waits }) => waits),
      together
    )
    expect(waits).toEqual([[0], [0], [0], [0], [1000], [1000]])
    expect(yield* Effect.promise(() => server.command("INFO", "commandstats"))).toContain("cmdstat_evalsha:calls=1,")
  })

  live("What is wrong with one key fails the calls of that key, and of no other one", function*() {
    const { server, store } = yield* one({ intervalMicros: 1000, burst: 2 })
    yield* Effect.promise(() => server.command("SADD", "{t:list}:r", "x"))
    yield* Effect.promise(() => server.command("SET", "{t:text}:r", "what, is this"))
    yield* Effect.promise(() => server.command("SET", "{t:commas}:r", "0 0 a,b,c"))
    expect(yield* store.take("commas", [1], -1)).toMatchObject({ waits: [], before: "0 0 a,b,c", after: "0 0 a,b,c" })
    const exits = yield* Effect.forEach(
      ["a", "list", "b", "text", "c", "commas", "d"],
      (key) => Effect.exit(store.take(key, [1], 0)),
      together
    )
    expect(exits.map((exit) => exit._tag)).toEqual(
      ["Success", "Failure", "Success", "Failure", "Success", "Success", "Success"]
    )
    expect(String(exits[1])).toContain("WRONGTYPE")
    yield* store.reset("list")
    expect((yield* store.take("list", [1], 0)).waits).toEqual([0])
  })

  live("Each call of a turn is answered by the state of its own key, whatever the calls around it find", function*() {
    const { server, store } = yield* one({ intervalMicros: 60_000_000, burst: 3 })
    yield* store.take("used", [1, 1], 0)
    yield* store.take("full", [3], 0)
    yield* Effect.promise(() => server.command("SET", "{t:broken}:r", "no state"))
    yield* Effect.promise(() => server.command("LPUSH", "{t:list}:r", "x"))
    const keys = ["list", "new", "used", "other", "full", "broken", "third", "full", "new", "list", "last"]
    const taken = yield* Effect.forEach(
      keys,
      (key) => Effect.match(store.take(key, [1], 0), { onFailure: () => -1, onSuccess: ({ remaining }) => remaining }),
      { concurrency: "unbounded" }
    )
    expect(taken).toEqual([-1, 2, 0, 2, 0, -1, 2, 0, 1, -1, 2])
    const kept = yield* Effect.forEach(["new", "other", "used", "last"], (key) => store.take(key, [1], -1))
    expect(kept.map(({ remaining }) => remaining)).toEqual([1, 2, 0, 2])
  })

  live("Calls for one key in one turn are carried out in their order, whatever they are", function*() {
    const { store } = yield* one({ intervalMicros: 1_000_000, burst: 1 })
    const take = Effect.map(store.take("k", [1], 0), ({ waits }) => waits.length)
    const first = yield* store.take("k", [1], 0)
    const results = yield* Effect.all(
      [take, store.giveBack("k", 1, first.after), take, store.reset("k"), take, store.penalize("k", 5000), take],
      together
    )
    expect(results).toEqual([0, undefined, 1, undefined, 1, undefined, 0])
  })

  live("A command whose script Redis has forgotten is sent again, and takes once", function*() {
    const { server, store } = yield* one({ intervalMicros: 1_000_000, burst: 1 })
    yield* store.take("warm", [1], 0)
    yield* Effect.promise(() => server.command("SCRIPT", "FLUSH"))
    const keys = Array.from({ length: 300 }, (_, i) => String(i))
    const taken = yield* Effect.forEach(keys, (key) => store.take(key, [1, 1], 10_000), together)
    for (const { waits } of taken) expect(waits).toEqual([0, 1000])
  })

  live(
    "A server that a fail-over has demoted refuses the command, and not the order: the client is to hear it",
    function*() {
      const { server, store } = yield* one({ intervalMicros: 1_000_000, burst: 1 })
      yield* store.take("warm", [1], 0)
      yield* Effect.promise(() => server.command("REPLICAOF", "127.0.0.1", "1"))
      const errors = yield* Effect.forEach(["a", "b"], (key) => Effect.flip(store.take(key, [1], 0)), together)
      yield* Effect.promise(() => server.command("REPLICAOF", "NO", "ONE"))
      for (const { cause } of errors) {
        expect(cause).toBeInstanceOf(Error)
        expect(String(cause)).toMatch(/^\w*: READONLY/)
      }
    }
  )

  live("The largest command takes less than 10 ms", function*() {
    const { server, store } = yield* one({ intervalMicros: 1000 / 3, burst: 1 }, { intervalMicros: 0.7, burst: 1e6 })
    const many = Array.from({ length: 512 }, (_, i) => 1 + i % 2)
    const tries = 10
    yield* store.take("warm", [1], 0)
    for (const tokens of [[1], many]) {
      yield* Effect.promise(() => server.command("SLOWLOG", "RESET"))
      yield* Effect.promise(() => server.command("CONFIG", "SET", "slowlog-log-slower-than", "10000"))
      for (let i = 0; i < tries; i++) {
        const keys = Array.from({ length: 128 }, (_, j) => `${i} ${j}`)
        yield* Effect.forEach(keys.slice(0, tokens === many ? 2 : 128), (key) => store.take(key, tokens, 1e9), together)
      }
      // A machine that is busy with other work may hold up some of them.
      const slow = yield* Effect.promise(() => server.command("SLOWLOG", "LEN"))
      expect(Number(slow.slice(1))).toBeLessThan(tries)
    }
  })

  live("No window and no penalty is too long", function*() {
    for (const intervalMicros of [1e21, Number.MAX_VALUE / 1e6]) {
      const { server, store } = yield* one({ intervalMicros, burst: 1 })
      expect((yield* store.take("k", [1], 0)).waits).toEqual([0])
      yield* store.penalize("l", intervalMicros)
      for (const key of ["k", "l"]) {
        const { retryMillis, waits } = yield* store.take(key, [1], 0)
        expect(waits).toEqual([])
        expect(retryMillis).toBeGreaterThan(intervalMicros / 1001)
        expect(yield* Effect.promise(() => server.command("PTTL", `{t:${key}}:r`))).toMatch(/^:\d/)
      }
    }
  })

  live("A clock that stepped back delays by the debt, not by the step", function*() {
    const { server, store } = yield* one({ intervalMicros: 50_000, burst: 1 })
    yield* store.take("k", [1], 0)
    const [anchor, debt] = (yield* Effect.promise(() => server.command("GET", "{t:k}:r"))).split("\r\n")[1]!.split(
      " "
    )
    yield* Effect.promise(() =>
      server.command("SET", "{t:k}:r", `${Number(anchor) + 30_000_000} ${debt}`, "PX", "40000")
    )
    const { retryMillis } = yield* store.take("k", [1], 0)
    expect(retryMillis).toBeLessThanOrEqual(50)
    yield* Effect.sleep(Math.ceil(retryMillis) + 1)
    expect((yield* store.take("k", [1], 0)).waits).toEqual([0])
  })
})

describe.skipIf(!hasRedis)("PermitStore over Redis", () => {
  const two = (leaseMillis = 5000, leaseOfB = leaseMillis) =>
    Effect.gen(function*() {
      const server = yield* emptied
      const make = (leaseMillis: number) =>
        Effect.gen(function*() {
          const { inbox, redis } = yield* connected(server.url)
          const seen = { wakes: 0 }
          const store = PermitStore.make(yield* Orders.make(PermitStore.kind, redis, 1000), inbox, {
            prefix: "t:",
            name: "s",
            leaseMillis,
            onWake: () => seen.wakes++
          })
          const woken = (n: number) =>
            Effect.gen(function*() {
              for (let i = 0; i < 300 && seen.wakes < n; i++) yield* Effect.sleep(5)
              expect(seen.wakes).toBeGreaterThanOrEqual(n)
            })
          return { ...store, seen, woken }
        })
      const a = yield* make(leaseMillis)
      const b = yield* make(leaseOfB)
      yield* subscribed(server, 2)
      a.seen.wakes = b.seen.wakes = 0
      return { server, a, b, make }
    })
  const ones = (...ids: ReadonlyArray<string>) => ids.map((id) => ({ id, weight: 1 }))
  const none = (...ids: ReadonlyArray<string>) => ids.map((id) => ({ id, weight: 0 }))

  live("Acquiring twice takes once, releasing twice frees once", function*() {
    const { a, b } = yield* two()
    expect((yield* a.acquire(ones("a1", "a2"), 3)).granted).toBe(2)
    expect((yield* a.acquire(ones("a1", "a2"), 3)).granted).toBe(2)
    expect((yield* b.acquire(ones("b1"), 3)).granted).toBe(1)
    yield* a.release(none("a1"))
    yield* a.release(none("a1"))
    expect((yield* b.acquire(ones("b2", "b3"), 3)).granted).toBe(1)
  })

  live("What is given back wakes all processes that can go on with it, and no others", function*() {
    const { a, make, server } = yield* two()
    const others = yield* Effect.all([make(5000), make(5000), make(5000), make(5000)])
    yield* subscribed(server, 6)
    yield* a.acquire([{ id: "a1", weight: 3 }], 3)
    for (const [i, other] of others.entries()) yield* other.acquire(ones(`${i}`), 3)
    for (const { seen } of others) seen.wakes = 0
    yield* a.release(none("a1"))
    for (const other of others.slice(0, 3)) yield* other.woken(1)
    expect(others[3]!.seen.wakes).toBe(0)
  })

  live(
    "One script wakes 250 processes and notes 500 ends, of however many schedulers, and the next ones go on",
    function*() {
      const server = yield* emptied
      const { inbox, redis } = yield* connected(server.url)
      const orders = yield* Orders.make(PermitStore.kind, redis, 1000)
      const keys = Array.from({ length: 8 }, (_, i) => `${i}`)
      const stores = keys.map((key) =>
        PermitStore.make(orders, inbox, { prefix: "t:", name: "s", key, leaseMillis: 5000, onWake() {} })
      )
      const together = <A>(f: (store: (typeof stores)[number], i: number) => Effect.Effect<A, unknown>) =>
        Effect.forEach(stores, f, { concurrency: "unbounded" })
      const command = (...words: ReadonlyArray<string>) => Effect.promise(() => server.command(...words))
      const calls = (name: string) =>
        Effect.map(
          command("INFO", "commandstats"),
          (stats) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
        )
      const now = (Date.now() - 1000) * 1000
      const some = (f: (i: number) => ReadonlyArray<string>) => Array.from({ length: 200 }, (_, i) => f(i)).flat()
      yield* together((store) => store.acquire([], 1))
      for (const key of keys) {
        yield* command("ZADD", `{t:s}:q:${key}`, ...some((i) => [`${now + i}`, `${i} nowhere`]))
        yield* command("ZADD", `{t:s}:a:${key}`, ...some((i) => [`${now + 60_000_000}`, `${i} nowhere`]))
        yield* command("HSET", `{t:s}:n:${key}`, ...some((i) => [`${i} nowhere`, "1 60000000"]))
      }
      yield* command("CONFIG", "RESETSTAT")
      yield* together((store) => store.penalize(1))
      expect([yield* calls("evalsha"), yield* calls("publish")]).toEqual([1, 256])
      yield* command("FLUSHALL")
      for (const key of keys) {
        yield* command("ZADD", `{t:s}:h:${key}`, ...some((i) => [`${now}`, `p${i}`]))
        yield* command("HSET", `{t:s}:n:${key}`, "", "200", ...some((i) => [`p${i}`, "1 5000000"]))
      }
      yield* command("CONFIG", "RESETSTAT")
      const acquire = together((store, i) => Effect.map(store.acquire(ones(`a${i}`), 1), (_) => _.granted))
      expect(yield* acquire).toEqual([1, 1, 0, 0, 0, 0, 0, 0])
      expect(yield* calls("evalsha")).toBe(1)
      // 500 permits, and a few words for each process that asks.
      expect(yield* calls("zrem")).toBeLessThan(520)
      for (let i = 0; i < 3; i++) yield* acquire
      expect(yield* acquire).toEqual(keys.map(() => 1))
    }
  )

  live("After FLUSHALL, holders that renew hold their permits again, up to the limit", function*() {
    const { a, b, server } = yield* two()
    yield* a.acquire(ones("a1", "a2"), 2)
    yield* Effect.promise(() => server.command("FLUSHALL"))
    expect((yield* b.acquire(ones("b1"), 2)).granted).toBe(1)
    expect(yield* a.renew(ones("a1", "a2"), 2)).toEqual(["a2"])
    for (const key of ["h"]) {
      const ttl = yield* Effect.promise(() => server.command("PTTL", `{t:s}:${key}`))
      expect(Number(ttl.slice(1))).toBeGreaterThan(1000)
    }
  })

  live("A lease left by a clock that was ahead ends within one lease", function*() {
    const { a, b, server } = yield* two(250)
    yield* a.acquire(ones("a1"), 1)
    const score = (yield* Effect.promise(() => server.command("ZSCORE", "{t:s}:h", "a1"))).split("\r\n")[1]!
    yield* Effect.promise(() => server.command("ZADD", "{t:s}:h", String(Number(score) + 30_000_000), "a1"))
    expect((yield* b.acquire(ones("b1"), 1)).pollMillis).toBeLessThanOrEqual(250)
    yield* Effect.sleep(260)
    expect((yield* b.acquire(ones("b1"), 1)).granted).toBe(1)
  })

  live("No penalty is too long", function*() {
    const { a, b } = yield* two()
    for (const millis of [1e18, Number.MAX_VALUE / 1e6]) {
      yield* a.penalize(millis)
      expect((yield* b.acquire(ones("b1"), 1)).penaltyMillis).toBeGreaterThan(millis / 1.001)
    }
  })

  live(
    "A penalty grants nothing and empties the queue; the longest one holds, and those that wait hear of it",
    function*() {
      const { a, b, server } = yield* two()
      expect((yield* a.acquire(ones("a1"), 1)).penaltyMillis).toBe(0)
      yield* b.acquire(ones("b1"), 1)
      yield* Effect.all([a.penalize(400), b.penalize(200)], { concurrency: 2 })
      yield* b.woken(1)
      const { granted, penaltyMillis } = yield* b.acquire(ones("b1"), 1)
      expect(granted).toBe(0)
      expect(penaltyMillis).toBeGreaterThan(300)
      expect(penaltyMillis).toBeLessThanOrEqual(400)
      expect(yield* Effect.promise(() => server.command("ZCARD", "{t:s}:q"))).toBe(":0\r\n")
      // The permits of running jobs are renewed all the same.
      expect(yield* a.renew(ones("a1"), 1)).toEqual([])
      yield* a.release(none("a1"))
      yield* Effect.sleep(410)
      expect(yield* b.acquire(ones("b1"), 1)).toMatchObject({ granted: 1, penaltyMillis: 0 })
      yield* b.penalize(0)
      expect((yield* b.acquire([], 1)).penaltyMillis).toBe(0)
    }
  )

  live("A command whose answer was lost before a penalty keeps nothing when it is repeated", function*() {
    const { a, b } = yield* two()
    expect((yield* a.acquire(ones("a1", "a2"), 2)).granted).toBe(2)
    yield* b.penalize(200)
    expect((yield* a.acquire(ones("a1", "a2"), 2)).granted).toBe(0)
    yield* Effect.sleep(210)
    expect((yield* b.acquire(ones("b1", "b2"), 2)).granted).toBe(2)
  })

  live("Orders of one turn go as one command, in their order, and each has its own answer", function*() {
    const { a, server } = yield* two()
    const calls = Effect.promise(async () =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(await server.command("INFO", "commandstats"))?.[1] ?? 0)
    )
    yield* a.acquire([], 1)
    const before = yield* calls
    const answers = yield* Effect.all([
      a.acquire(ones("a1"), 1),
      a.release(none("a1")),
      a.acquire(ones("a2"), 1),
      a.renew(ones("a3"), 1)
    ], { concurrency: "unbounded" })
    expect([answers[0].granted, answers[1], answers[2].granted, answers[3]]).toEqual([1, undefined, 1, ["a3"]])
    expect((yield* calls) - before).toBe(1)
  })

  live("Where Redis has no memory left, permits are renewed, given back in part, and taken", function*() {
    const { a, b, server } = yield* two()
    const config = (memory: string) => Effect.promise(() => server.command("CONFIG", "SET", "maxmemory", memory))
    const heavy = { id: "a1", weight: 2 }
    yield* a.acquire([heavy], 4)
    yield* b.acquire([], 4)
    yield* Effect.gen(function*() {
      expect(yield* config("1")).toBe("+OK\r\n")
      expect(yield* a.renew([heavy], 4)).toEqual([])
      expect((yield* b.acquire(ones("b1", "b2"), 4)).granted).toBe(2)
      yield* a.release([{ id: "a1", weight: 1 }])
      expect((yield* b.acquire(ones("b3"), 4)).granted).toBe(1)
      yield* b.penalize(1)
    }).pipe(Effect.ensuring(config("0")))
  })

  live(
    "Permits that were lost alone, as where Redis evicts a key, are counted again once they are renewed",
    function*() {
      const { a, b, server } = yield* two()
      yield* a.acquire(ones("a1", "a2"), 3)
      yield* Effect.promise(() => server.command("DEL", "{t:s}:h"))
      expect(yield* a.renew(ones("a1", "a2"), 3)).toEqual([])
      expect((yield* b.acquire(ones("b1", "b2"), 3)).granted).toBe(1)
      yield* a.release(none("a1"))
      expect((yield* b.acquire(ones("b2", "b3"), 3)).granted).toBe(1)
      yield* Effect.promise(() => server.command("DEL", "{t:s}:h"))
      expect((yield* b.acquire(ones("b4", "b5", "b6"), 3)).granted).toBe(3)
      yield* a.release(none("a2"))
      expect((yield* b.acquire(ones("b7"), 3)).granted).toBe(0)
    }
  )

  live(
    "A place whose end was lost alone, as where Redis evicts a key, holds up the others no longer than it would have",
    function*() {
      const { a, b, make, server } = yield* two(300)
      const c = yield* make(300)
      yield* a.acquire(ones("a1"), 1)
      yield* b.acquire(ones("b1"), 1)
      yield* Effect.promise(() => server.command("DEL", "{t:s}:a"))
      yield* a.release(none("a1"))
      // `b` has died. However long the machine takes: the place of `c` is kept by asking.
      let granted = 0
      for (let i = 0; i < 250 && granted === 0; i++) {
        granted = (yield* c.acquire(ones("c1"), 1)).granted
        if (granted === 0) yield* Effect.sleep(20)
      }
      expect(granted).toBe(1)
    }
  )

  live("A state that a foreign client has destroyed is whole again once its permits are renewed", function*() {
    const { a, b, server } = yield* two()
    yield* a.acquire([{ id: "a1", weight: 2 }], 3)
    yield* Effect.promise(() => server.command("DEL", "{t:s}:n"))
    expect(yield* a.renew([{ id: "a1", weight: 2 }], 3)).toEqual([])
    expect((yield* b.acquire(ones("b1", "b2"), 3)).granted).toBe(1)
    yield* Effect.promise(() => server.command("HSET", "{t:s}:n", "b1", "1 9000000000000000"))
    yield* Effect.promise(() => server.command("ZADD", "{t:s}:h", "9000000000000000", "b1"))
    const { pollMillis } = yield* b.acquire(ones("b2"), 3)
    expect(pollMillis).toBeLessThanOrEqual(5000)
    const end = yield* Effect.promise(() => server.command("ZSCORE", "{t:s}:h", "b1"))
    expect(Number(end.split("\r\n")[1])).toBeLessThan((Date.now() + 2 * 3_600_000) * 1000)
  })
})
