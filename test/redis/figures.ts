/**
 * Measures the cost of coordination through Redis, on its own server on the loopback interface: `npm run redis:figures`.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import Table from "cli-table3"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { build } from "esbuild"
import * as Reducer from "effect-funnel/Reducer"
import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
import * as RedisReducer from "effect-funnel/redis/Reducer"
import * as RedisScheduler from "effect-funnel/redis/Scheduler"
import { reduceShared } from "effect-funnel/SharedReducer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Redis from "effect/persistence/Redis"
import * as Schema from "effect/Schema"
import type * as BuiltStore from "../../src/internal/redis/gcraStore.js"
import type * as BuiltOrders from "../../src/internal/redis/orders.js"
import { buildWhenStale } from "../../scripts/build.ts"
import { type RedisServer, redisServer } from "../support/redisServer.ts"
import { measure } from "./throughput.ts"

await buildWhenStale()
// The store is not exported, so it is bundled here.
const bundled = fileURLToPath(new URL("../../.tmp/gcraStore.js", import.meta.url))
await build({
  stdin: {
    contents: `export * as GcraStore from "./gcraStore.ts"; export * as Orders from "./orders.ts"`,
    resolveDir: fileURLToPath(new URL("../../src/internal/redis", import.meta.url))
  },
  bundle: true,
  format: "esm",
  packages: "external",
  outfile: bundled
})
const { GcraStore, Orders }: { readonly GcraStore: typeof BuiltStore; readonly Orders: typeof BuiltOrders } =
  await import(
    bundled
  )

class Get extends Persistable.Class<{ payload: { readonly id: string } }>()("Get", {
  primaryKey: (_) => _.id,
  success: Schema.String
}) {}

const client = (url: string) => NodeRedis.layer({ url, disableOfflineQueue: true, commandOptions: { timeout: 0 } })

/** Builds a new service each time, as another process would. */
const elsewhere = <A, E, R>(url: string, effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Layer.build(Layer.fresh(client(url))), (context) => Effect.provideContext(effect, context))

const sample = <E, R>(count: number, effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function*() {
    const times: Array<number> = []
    for (let i = 0; i < count; i++) {
      const at = performance.now()
      yield* effect
      times.push(performance.now() - at)
    }
    return times
  })

const quantile = (times: ReadonlyArray<number>, q: number) =>
  times.toSorted((a, b) => a - b)[Math.floor(times.length * q)]!

const table = new Table({
  head: ["", "p50, µs", "p95, µs"],
  colAligns: ["left", "right", "right"],
  style: { head: [], border: [], compact: true }
})
const row = (name: string, times: ReadonlyArray<number>, per = 1) =>
  table.push([name, ...[0.5, 0.95].map((q) => (quantile(times, q) * 1000 / per).toFixed(1))])

const calls = new Table({
  head: ["", "a second", "CPU in its process, µs", "CPU in Redis, µs"],
  colAligns: ["left", "right", "right", "right"],
  style: { head: [], border: [], compact: true }
})

/** What the tool of Redis itself reaches, with a script that does nothing. */
const benchmark = async (server: RedisServer, name: string, ...options: ReadonlyArray<string>) => {
  const [, sha] = (await server.command("SCRIPT", "LOAD", "return 1")).split("\r\n")
  const words = ["-p", String(server.port), "-n", "200000", "--csv", ...options, "EVALSHA", sha!, "1", "k"]
  const { stdout } = await promisify(execFile)("redis-benchmark", words)
  const [, perSecond] = stdout.trim().split("\n").at(-1)!.split(/","|"/).slice(1)
  calls.push([name, Number(perSecond).toFixed(0), "", ""])
}

const throughput = async (server: RedisServer) => {
  await benchmark(server, "redis-benchmark: scripts that do nothing, one in a round trip")
  await benchmark(server, "redis-benchmark: the same, 16 in a round trip", "-P", "16")
  for (const processes of [1, 2]) {
    const where = processes === 1 ? "1 process" : `${processes} processes`
    for (const task of [decisions, flights]) {
      const { clientMicros, perSecond, serverMicros } = await measure(server, processes, task)
      calls.push([`${task.name}, ${where}`, ...[perSecond, clientMicros, serverMicros].map((_) => _.toFixed(0))])
    }
  }
}
const decisions = {
  name: "decisions over 100,000 keys",
  kind: "decisions",
  count: 100_000,
  keys: 100_000,
  width: 512
} as const
const flights = {
  name: "shared runs that nobody else wants",
  kind: "flights",
  count: 20_000,
  keys: 1000,
  width: 256
} as const

const program = Effect.gen(function*() {
  const server = yield* redisServer()
  const { url } = server

  const on = (reducer: Reducer.Reducer) => <R>(request: Get, f: () => Effect.Effect<string, never, R>) =>
    Effect.provideService(reduceShared(request, f), Reducer.Reducer, reducer)
  const a = on(yield* elsewhere(url, RedisReducer.make()))
  const b = on(yield* elsewhere(url, RedisReducer.make()))
  const flight = a(new Get({ id: "1" }), () => Effect.succeed("x"))
  yield* sample(2000, flight)
  row("a shared flight that nobody else wants", yield* sample(4000, flight))

  const leader: Array<number> = []
  const follower: Array<number> = []
  for (let i = 0; i < 400; i++) {
    const began = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void>()
    let at = 0
    const work = () => Deferred.succeed(began, undefined).pipe(Effect.andThen(Deferred.await(end)), Effect.as("x"))
    const since = (times: Array<number>) => Effect.sync(() => void times.push(performance.now() - at))
    yield* Effect.all([
      Effect.andThen(a(new Get({ id: `${i}` }), work), since(leader)),
      Deferred.await(began).pipe(
        Effect.andThen(b(new Get({ id: `${i}` }), work)),
        Effect.andThen(since(follower))
      ),
      Deferred.await(began).pipe(
        Effect.andThen(Effect.sleep(5)),
        Effect.andThen(Effect.suspend(() => {
          at = performance.now()
          return Deferred.succeed(end, undefined)
        }))
      )
    ], { concurrency: "unbounded", discard: true })
  }
  row("the leader, after its work has ended", leader.slice(100))
  row("a follower, after the leader's work has ended", follower.slice(100))

  const limiter = yield* elsewhere(
    url,
    RedisRateLimiter.make({ rate: { limit: 1e9, window: "1 second", burst: 1e6 } })
  )
  const single = limiter.consume()
  yield* sample(2000, single)
  row("one decision", yield* sample(4000, single))
  const alone = limiter.consume({ onExceeded: "fail" })
  const hundred = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.all(Array.from({ length: 100 }, () => effect), { concurrency: "unbounded", discard: true })
  yield* sample(100, hundred(alone))
  row("a decision of its own, pipelined from 100 fibers", yield* sample(200, hundred(alone)), 100)
  yield* sample(100, hundred(single))
  row("a decision for one of 100 waiting fibers", yield* sample(200, hundred(single)), 100)

  const orders = yield* Orders.make(GcraStore.kind, yield* elsewhere(url, Redis.Redis), 1000)
  const store = GcraStore.make(orders, {
    prefix: "bench:",
    cells: [{ intervalMicros: 0.001, burst: 1e6 }]
  })
  const ones = Array.from({ length: 100 }, () => 1)
  yield* sample(500, store.take("k", ones, 0))
  row("one of 100 decisions in one command", yield* sample(2000, store.take("k", ones, 0)), 100)

  const scheduler = yield* elsewhere(url, RedisScheduler.make({ name: "bench", concurrency: 100 }))
  yield* sample(500, scheduler.schedule(Effect.void))
  row("a permit that is free", yield* sample(2000, scheduler.schedule(Effect.void)))
  yield* sample(20, hundred(scheduler.schedule(Effect.void)))
  row("a permit for one of 100 jobs at once", yield* sample(200, hundred(scheduler.schedule(Effect.void))), 100)
  yield* Effect.promise(() => throughput(server))
})

await Effect.runPromise(Effect.scoped(program))
console.log(table.toString())
console.log(calls.toString())
