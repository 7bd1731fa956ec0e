/**
 * The services over PostgreSQL, each client in a pool of its own, as another process would have it.
 */
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { connect, createServer, type Socket } from "node:net"
import { migration } from "../../src/internal/postgres/tables.js"
import * as PostgresRateLimiter from "../../src/postgres/RateLimiter.js"
import * as PostgresReducer from "../../src/postgres/Reducer.js"
import * as PostgresScheduler from "../../src/postgres/Scheduler.js"
import * as RateLimiter from "../../src/RateLimiter.js"
import * as Reducer from "../../src/Reducer.js"
import * as Scheduler from "../../src/Scheduler.js"
import { reduceShared } from "../../src/SharedReducer.js"
import { fork } from "../support/fibers.ts"
import { live } from "../support/live.js"
import { database, layerPg } from "../support/postgresClient.js"
import { hasPostgres, type PostgresServer, postgresServer, postgresServerOfFile } from "../support/postgresServer.js"

const server = postgresServerOfFile({ afterAll, beforeAll })

class Get extends Persistable.Class<{ payload: { readonly id: string } }>()("Get", {
  primaryKey: (_) => _.id,
  success: Schema.Number
}) {}

/** Builds a layer over a pool of its own. */
const own = <A, E>(layer: Layer.Layer<A, E, PgClient.PgClient>, of?: PostgresServer) =>
  Effect.flatMap(
    of === undefined ? server : Effect.succeed(of),
    (of) => Layer.build(Layer.fresh(layer).pipe(Layer.provide(Layer.fresh(layerPg(of)))))
  )

const rows = (sql: string) =>
  Effect.scoped(
    Effect.flatMap(Effect.flatMap(server, (_) => database(_)), ({ pg }) => pg.unsafe<Record<string, unknown>>(sql))
  )

const eventually = Effect.fnUntraced(function*(done: Effect.Effect<boolean, unknown>) {
  let isDone = yield* Effect.orDie(done)
  for (let i = 0; i < 500 && !isDone; i++) {
    yield* Effect.sleep(10)
    isDone = yield* Effect.orDie(done)
  }
  expect(isDone).toBe(true)
})

describe.skipIf(!hasPostgres)("Reducer over PostgreSQL", () => {
  const two = Effect.fnUntraced(function*(options?: PostgresReducer.Options) {
    const make = Effect.map(
      own(PostgresReducer.layer(options)),
      (context) => <A, E>(call: Effect.Effect<A, E, Reducer.Reducer>) => Effect.provideContext(call, context)
    )
    return [yield* make, yield* make] as const
  })

  live("two clients meet: one run, and all callers get its result", function*() {
    const [a, b] = yield* two()
    const id = crypto.randomUUID()
    let runs = 0
    const call = reduceShared(new Get({ id }), () => Effect.as(Effect.delay(Effect.sync(() => runs++), 150), 42))
    const all = yield* Effect.all([a(call), b(call), a(call), b(call)], { concurrency: "unbounded" })
    expect([all, runs]).toEqual([[42, 42, 42, 42], 1])
    expect(yield* rows("SELECT * FROM effect_funnel.waiters")).toEqual([])
  })

  live("reducers that are made in scopes of their own meet, and with their scopes the connections end", function*() {
    const scope = yield* Scope.make()
    const make = Effect.gen(function*() {
      const pg = yield* Layer.build(Layer.fresh(layerPg(yield* server)))
      const reducer = yield* Effect.provideContext(PostgresReducer.make({ lease: "1 minute" }), pg)
      return <A, E>(call: Effect.Effect<A, E, Reducer.Reducer>) => Effect.provideService(call, Reducer.Reducer, reducer)
    }).pipe(Scope.provide(scope))
    const [a, b] = [yield* make, yield* make]
    const id = crypto.randomUUID()
    let runs = 0
    const call = reduceShared(new Get({ id }), () => Effect.as(Effect.delay(Effect.sync(() => runs++), 150), 42))
    expect([yield* Effect.all([a(call), b(call)], { concurrency: 2 }), runs]).toEqual([[42, 42], 1])
    yield* Scope.close(scope, Exit.void)
    expect(Exit.isFailure(yield* Effect.exit(a(call)))).toBe(true)
  })

  live("an interrupted leader hands over at once, an interrupted follower leaves", function*() {
    const [a, b] = yield* two({ lease: "1 minute" })
    const request = new Get({ id: crypto.randomUUID() })
    let runs = 0
    const first = yield* fork(a(reduceShared(request, () => Effect.andThen(Effect.sync(() => runs++), Effect.never))))
    yield* eventually(Effect.sync(() => runs === 1))
    const gone = yield* fork(b(reduceShared(request, () => Effect.die("not alone"))))
    yield* Effect.sleep(50)
    yield* Fiber.interrupt(gone)
    const second = yield* fork(b(reduceShared(request, () => Effect.succeed(7))))
    yield* Effect.sleep(50)
    const began = performance.now()
    yield* Fiber.interrupt(first)
    expect(yield* Fiber.join(second)).toBe(7)
    expect(performance.now() - began).toBeLessThan(900)
    // Those who have left leave nothing behind.
    yield* eventually(
      Effect.map(rows("SELECT owner FROM effect_funnel.flights WHERE until > 0"), (_) => _.length === 0)
    )
    expect(yield* rows("SELECT * FROM effect_funnel.waiters")).toEqual([])
  })

  live("when all connections are cut, those that wait still get the result, and wake-ups come again", function*() {
    const [a, b] = yield* two()
    const cut =
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'postgres'"
    const meet = Effect.fnUntraced(function*(id: string, between: Effect.Effect<unknown, unknown>) {
      const request = new Get({ id })
      const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<number>()]
      const run = Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end))
      const first = yield* fork(a(reduceShared(request, () => run)))
      yield* Deferred.await(begun)
      const second = yield* fork(b(reduceShared(request, () => Effect.die("not alone"))))
      yield* Effect.sleep(100)
      yield* Effect.orDie(between)
      const began = performance.now()
      yield* Deferred.succeed(end, 5)
      expect([yield* Fiber.join(first), yield* Fiber.join(second)]).toEqual([5, 5])
      return performance.now() - began
    })
    expect(yield* meet("cut", rows(cut))).toBeLessThan(2500)
    yield* Effect.sleep(500)
    expect(yield* meet("whole", Effect.void)).toBeLessThan(500)
  })

  live("a flight that the server has forgotten keeps the result for those who waited, as they ask again", function*() {
    const [a, b] = yield* two({ lease: "600 millis" })
    const end = yield* Deferred.make<number>()
    const owner = "SELECT owner FROM effect_funnel.flights WHERE key LIKE '%\"forgotten\"%'"
    let runs = 0
    const call = reduceShared(
      new Get({ id: "forgotten" }),
      () => Effect.andThen(Effect.sync(() => runs++), Deferred.await(end))
    )
    const first = yield* fork(a(call))
    yield* eventually(Effect.sync(() => runs === 1))
    const second = yield* fork(b(call))
    yield* eventually(Effect.map(rows("SELECT FROM effect_funnel.waiters"), (_) => _.length === 1))
    yield* rows("TRUNCATE effect_funnel.flights, effect_funnel.waiters")
    yield* eventually(Effect.map(rows(owner), (_) => _.length === 1))
    yield* Deferred.succeed(end, 3)
    expect([yield* Fiber.join(first), yield* Fiber.join(second), runs]).toEqual([3, 3, 1])
  })

  live("a call that is interrupted while it joins leaves no lease behind: its release overtakes no join", function*() {
    const layer = PostgresReducer.layer({ lease: "1 minute" })
    const all = yield* Effect.all([own(layer), own(layer), own(layer)])
    const call = (i: number) =>
      Effect.provideContext(
        reduceShared(new Get({ id: "interrupted" }), () => Effect.as(Effect.sleep(2), 1)),
        all[i % 3]!
      )
    for (let i = 0; i < 250; i++) {
      const calls = [yield* fork(call(i)), yield* fork(call(i + 1))]
      yield* Effect.sleep(i % 20 / 4)
      for (const one of calls) yield* fork(Fiber.interrupt(one))
      expect(yield* Effect.timeoutOption(call(i + 2), "3 seconds")).toMatchObject({ value: 1 })
    }
  })

  live("a call within a transaction of its caller holds no lock of it", function*() {
    const [a] = yield* two()
    const { pg } = yield* database(yield* server)
    const call = (id: string) => a(reduceShared(new Get({ id }), () => Effect.succeed(1)))
    const inTransaction = pg.withTransaction(Effect.gen(function*() {
      expect(yield* call("t")).toBe(1)
      return yield* pg.unsafe<{ n: number }>(
        "SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
      )
    }))
    expect(yield* inTransaction).toEqual([{ n: 0 }])
    // The same client, so that its transaction is the one in the context.
    const shared = yield* Layer.build(PostgresReducer.layer().pipe(Layer.provideMerge(layerPg(yield* server))))
    const same = Context.get(shared, PgClient.PgClient)
    const locks = same.withTransaction(Effect.gen(function*() {
      yield* Effect.provideContext(reduceShared(new Get({ id: "t" }), () => Effect.succeed(1)), shared)
      return yield* same.unsafe("SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
    }))
    expect(yield* locks).toEqual([])
  })

  live("no connection is held while callers wait, but the one that listens", function*() {
    const [a, b] = yield* two()
    // The first command makes the tables.
    yield* a(reduceShared(new Get({ id: "first" }), () => Effect.succeed(1)))
    const waiting = yield* Effect.forEach(
      Array.from({ length: 50 }, (_, i) => new Get({ id: `wait-${i}` })),
      (request) =>
        Effect.all([
          fork(a(reduceShared(request, () => Effect.never))),
          fork(b(reduceShared(request, () => Effect.never)))
        ])
    )
    yield* eventually(Effect.map(rows("SELECT FROM effect_funnel.waiters"), (_) => _.length === 50))
    // The last command may be about to end, and a lease about to be renewed.
    const busy =
      "SELECT FROM pg_stat_activity WHERE (state = 'active' AND pid <> pg_backend_pid()) OR state LIKE 'idle in%'"
    yield* eventually(Effect.map(rows(busy), (_) => _.length === 0))
    yield* Effect.forEach(waiting.flat(), Fiber.interrupt, { concurrency: "unbounded" })
  })
})

describe.skipIf(!hasPostgres)("RateLimiter over PostgreSQL", () => {
  live("two clients share the pace", function*() {
    const layer = PostgresRateLimiter.layer({ rate: { limit: 50, window: "1 second", burst: 5 } })
    const [a, b] = [yield* own(layer), yield* own(layer)]
    const began = performance.now()
    yield* Effect.forEach(
      Array.from({ length: 30 }, (_, i) => i % 2 === 0 ? a : b),
      (context) => Effect.provideContext(RateLimiter.consume(), context),
      { concurrency: "unbounded" }
    )
    // 25 of them are 20 milliseconds apart.
    expect(performance.now() - began).toBeGreaterThan(490)
  })

  live("an interrupted caller leaves its slot to the next one, and keys at rest are removed", function*() {
    const limiter = Context.get(
      yield* own(PostgresRateLimiter.layer({ rate: { limit: 1, window: "150 millis" }, prefix: "short" })),
      RateLimiter.RateLimiter
    )
    yield* limiter.consume({ key: "k" })
    const [first, second] = [yield* fork(limiter.consume({ key: "k" })), yield* fork(limiter.consume({ key: "k" }))]
    yield* Effect.sleep(50)
    const began = performance.now()
    yield* Fiber.interrupt(first)
    yield* Fiber.join(second)
    expect(performance.now() - began).toBeLessThan(200)
    yield* Effect.forEach(Array.from({ length: 40 }, (_, i) => `${i}`), (key) => limiter.consume({ key }))
    yield* Effect.sleep(170)
    yield* Effect.forEach(Array.from({ length: 10 }, (_, i) => `new-${i}`), (key) => limiter.consume({ key }))
    const [left] = yield* rows("SELECT count(*)::int AS n FROM effect_funnel.rates WHERE key LIKE '=short:%'")
    expect(left?.n).toBeLessThan(15)
  })
})

describe.skipIf(!hasPostgres)("Scheduler over PostgreSQL", () => {
  class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}

  live("three clients together never exceed the concurrency, all jobs run, and nothing is left", function*() {
    const layer = PostgresScheduler.layer({ concurrency: 4, prefix: "three" })
    const all = [yield* own(layer), yield* own(layer), yield* own(layer)]
    let now = 0
    let most = 0
    let done = 0
    const job = Effect.acquireUseRelease(
      Effect.sync(() => void (most = Math.max(most, ++now))),
      () => Effect.sleep(4),
      () => Effect.sync(() => void (now--, done++))
    )
    yield* Effect.forEach(
      Array.from({ length: 90 }, (_, i) => all[i % 3]!),
      (context) => Effect.provideContext(Scheduler.schedule(job), context),
      { concurrency: "unbounded" }
    )
    expect({ most, done }).toEqual({ most: 4, done: 90 })
    const left = "SELECT key FROM effect_funnel.permits WHERE key LIKE '=three%' UNION ALL " +
      "SELECT key FROM effect_funnel.queue WHERE key LIKE '=three%'"
    yield* eventually(Effect.map(rows(left), (_) => _.length === 0))
  })

  live("a waiting job that is interrupted leaves the queue, and the next process goes on", function*() {
    const layer = PostgresScheduler.layer({ concurrency: 1, prefix: "leave" })
    const [a, b, c] = [yield* own(layer), yield* own(layer), yield* own(layer)]
    const [running, waiting] = [
      yield* fork(Effect.provideContext(Scheduler.schedule(Effect.never), a)),
      yield* Effect.andThen(Effect.sleep(80), fork(Effect.provideContext(Scheduler.schedule(Effect.never), b)))
    ]
    yield* Effect.sleep(80)
    const last = yield* fork(Effect.provideContext(Scheduler.schedule(Effect.succeed("ran")), c))
    yield* Effect.sleep(80)
    yield* Fiber.interrupt(waiting)
    yield* Fiber.interrupt(running)
    expect(yield* Fiber.join(last)).toBe("ran")
  })

  live(
    "a scheduler that closes while it asks for a permit leaves no place behind: leaving overtakes no command",
    function*() {
      const pg = yield* Layer.build(Layer.fresh(layerPg(yield* server)))
      const options = { name: "closes", concurrency: 1, lease: "1 minute" } as const
      const make = Effect.provideContext(PostgresScheduler.make(options), pg)
      const began = yield* Deferred.make<void>()
      yield* fork((yield* make).schedule(Effect.andThen(Deferred.succeed(began, undefined), Effect.never)))
      yield* Deferred.await(began)
      for (let i = 0; i < 100; i++) {
        yield* Effect.scoped(Effect.gen(function*() {
          yield* fork(Effect.exit((yield* make).schedule(Effect.die("not alone"))))
          yield* Effect.sleep(i % 24 / 8)
        }))
      }
      expect(yield* rows("SELECT party FROM effect_funnel.queue WHERE key LIKE '%closes%'")).toEqual([])
    }
  )

  live("a job that ends while its permit is renewed gives it back: no renewal takes it again", function*() {
    const options = { lookup: () => ({ concurrency: 1 }), lease: "600 millis", prefix: "renewals" } as const
    const hosts = Context.get(yield* own(PostgresScheduler.layerKeyed(Hosts, options)), Hosts)
    yield* hosts.get("first").schedule(Effect.void)
    for (let round = 0; round < 10; round++) {
      yield* Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i),
        (i) => hosts.get(`${i}`).schedule(Effect.sleep(140 + i * 2)),
        { concurrency: "unbounded" }
      )
      yield* Effect.sleep(100)
      expect(yield* rows("SELECT id FROM effect_funnel.permits WHERE key LIKE '=renewals%'")).toEqual([])
    }
  })

  live("a key may be long, and no key is a scheduler whose name goes on as the key does", function*() {
    class Printer extends Scheduler.Service<Printer>()("app/Hosts:printer", { concurrency: 1 }) {}
    const hosts = yield* own(PostgresScheduler.layerKeyed(Hosts, { lookup: () => ({ concurrency: 1 }) }))
    const long = Array.from({ length: 500 }, () => crypto.randomUUID()).join("")
    for (const key of ["printer", long]) {
      const began = yield* Deferred.make<void>()
      yield* fork(
        Effect.provideContext(
          Hosts.schedule(key, Effect.andThen(Deferred.succeed(began, undefined), Effect.never)),
          hosts
        )
      )
      yield* Deferred.await(began)
    }
    const printer = yield* own(PostgresScheduler.layerService(Printer, { concurrency: 1 }))
    for (
      const free of [
        Effect.provideContext(Printer.schedule(Effect.succeed("ran")), printer),
        Effect.provideContext(Hosts.schedule(`${long}a`, Effect.succeed("ran")), hosts)
      ]
    ) expect(yield* Effect.timeoutOption(free, "5 seconds")).toMatchObject({ value: "ran" })
  })

  live("each key has a concurrency and a rate of its own, in all processes", function*() {
    const layer = PostgresScheduler.layerKeyed(Hosts, {
      lookup: () => ({ concurrency: 1, rate: { limit: 2, window: "1 hour", burst: 2 } })
    })
    const [a, b] = [Context.get(yield* own(layer), Hosts), Context.get(yield* own(layer), Hosts)]
    const held = yield* fork(a.get("x").schedule(Effect.never))
    yield* Effect.sleep(80)
    const waits = yield* fork(b.get("x").schedule(Effect.succeed("x")))
    expect(yield* b.get("y").schedule(Effect.succeed("y"))).toBe("y")
    expect(waits.pollUnsafe()).toBe(undefined)
    yield* Fiber.interrupt(held)
    expect(yield* Fiber.join(waits)).toBe("x")
  })
})

describe.skipIf(!hasPostgres)("PostgreSQL away and back", () => {
  live("the policies apply while it is down, and all heals when it is back", function*() {
    const server = yield* postgresServer
    const options = { outageBudget: 0, storeTimeout: "500 millis" } as const
    const reducer = yield* own(PostgresReducer.layer({ ...options, onStoreError: "local" }), server)
    const rate = { limit: 1000, window: "1 second" } as const
    const limiter = Context.get(
      yield* own(PostgresRateLimiter.layer({ ...options, rate }), server),
      RateLimiter.RateLimiter
    )
    const scheduler = Context.get(
      yield* own(PostgresScheduler.layer({ ...options, concurrency: 1, lease: "1 second" }), server),
      Scheduler.Scheduler
    )
    const shared = (id: string) =>
      Effect.provideContext(reduceShared(new Get({ id }), ({ fence }) => Effect.succeed(fence)), reducer)
    const before = yield* shared("k")
    expect(before).toBeGreaterThan(1e15)
    yield* limiter.consume()
    yield* scheduler.schedule(Effect.void)

    yield* Effect.promise(() => server.stop())
    expect(yield* shared("k")).toBe(0)
    expect((yield* Effect.flip(limiter.consume())).reason._tag).toBe("StoreError")
    expect((yield* Effect.flip(scheduler.schedule(Effect.void))).reason._tag).toBe("StoreError")

    yield* Effect.promise(() => server.start())
    yield* eventually(Effect.map(Effect.exit(limiter.consume()), Exit.isSuccess))
    yield* eventually(Effect.map(Effect.exit(scheduler.schedule(Effect.void)), Exit.isSuccess))
    yield* eventually(Effect.map(shared("k"), (fence) => fence > before))
  })
})

describe.skipIf(!hasPostgres)("a connection that is dead without a word", () => {
  /** A way to the server, which drops without a word what comes from a socket that is dead. */
  const proxied = Effect.gen(function*() {
    const { port } = yield* server
    const way = { port: 0, sockets: new Set<Socket>(), isDead: (_: Socket): boolean => false }
    const proxy = createServer((client) => {
      const upstream = connect(port, "127.0.0.1")
      for (const [from, to] of [[client, upstream], [upstream, client]] as const) {
        way.sockets.add(from)
        from.on("error", () => {})
        from.on("close", () => to.destroy())
        from.on("data", (data) => way.isDead(from) || to.write(data))
      }
    })
    yield* Effect.promise(() => new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve)))
    const address = proxy.address()
    if (address === null || typeof address === "string") throw new Error("no port")
    way.port = address.port
    yield* Effect.addFinalizer(() => Effect.sync(() => proxy.close()))
    return way
  })

  live("holds up no later command of its key, however short the timeout is", function*() {
    const way = yield* proxied
    const pg = PgClient.layer({
      url: Redacted.make(`postgres://postgres@127.0.0.1:${way.port}/postgres`),
      maxConnections: 10
    })
    const options = { storeTimeout: "300 millis", outageBudget: 0, onStoreError: "fail", prefix: "hole" } as const
    const context = yield* Layer.build(Layer.fresh(PostgresReducer.layer(options)).pipe(Layer.provide(Layer.fresh(pg))))
    const call = Effect.provideContext(reduceShared(new Get({ id: "hole" }), () => Effect.succeed(1)), context)
    // The first one makes the tables.
    yield* eventually(Effect.map(Effect.exit(call), Exit.isSuccess))
    const former = new Set(way.sockets)
    way.isDead = (socket) => former.has(socket)
    const began = performance.now()
    yield* eventually(Effect.map(Effect.exit(call), Exit.isSuccess))
    expect(performance.now() - began).toBeLessThan(6000)
    // The client ends politely, and waits for answers.
    for (const socket of way.sockets) socket.destroy()
  })

  live("fails a command after its timeout, and a caller who is interrupted leaves at once", function*() {
    const way = yield* proxied
    const pg = yield* Layer.build(Layer.fresh(PgClient.layer({
      url: Redacted.make(`postgres://postgres@127.0.0.1:${way.port}/postgres`),
      maxConnections: 4
    })))
    const limiter = yield* Effect.provideContext(
      PostgresRateLimiter.make({
        rate: { limit: 1000, window: "1 second" },
        storeTimeout: "300 millis",
        outageBudget: 0,
        prefix: "dead"
      }),
      pg
    )
    yield* limiter.consume()
    way.isDead = () => true
    const began = performance.now()
    const waiting = yield* fork(limiter.consume({ key: "other", onExceeded: "fail" }))
    yield* Effect.sleep(50)
    yield* Fiber.interrupt(waiting)
    expect(performance.now() - began).toBeLessThan(250)
    expect((yield* Effect.flip(limiter.consume())).reason._tag).toBe("StoreError")
    expect(performance.now() - began).toBeLessThan(1000)
    // The client ends politely, and waits for answers.
    for (const socket of way.sockets) socket.destroy()
  })
})

describe.skipIf(!hasPostgres)("the client of PostgreSQL", () => {
  /** The client of a program, with something else in place of a part of it. */
  const changed = Effect.fnUntraced(function*(change: (pg: PgClient.PgClient) => Partial<PgClient.PgClient>) {
    const pg = Context.get(yield* Layer.build(Layer.fresh(layerPg(yield* server))), PgClient.PgClient)
    const parts = change(pg)
    return Layer.succeed(
      PgClient.PgClient,
      new Proxy(pg, {
        get: (target, name) => Reflect.get(name in parts ? parts : target, name)
      })
    )
  })

  live("a run that ends while its lease is renewed is over: its end overtakes no renewal", function*() {
    // A renewal that was interrupted arrives all the same.
    const late = yield* changed((pg) => {
      const sql = pg.withoutTransforms()
      const unsafe = (text: string, params?: ReadonlyArray<unknown>) => {
        const sent = sql.unsafe(text, params)
        return text.includes("renew_flight") ? Effect.uninterruptible(Effect.delay(sent, 100)) : sent
      }
      return {
        withoutTransforms: () =>
          new Proxy(sql, { get: (target, name) => name === "unsafe" ? unsafe : Reflect.get(target, name) })
      }
    })
    const context = yield* Layer.build(Layer.provide(PostgresReducer.layer({ lease: "600 millis" }), late))
    const call = reduceShared(new Get({ id: "renewed" }), () => Effect.as(Effect.sleep(230), 1))
    yield* Effect.provideContext(call, context)
    yield* Effect.sleep(150)
    expect(yield* rows("SELECT key FROM effect_funnel.flights WHERE key LIKE '%\"renewed\"%'")).toEqual([])
  })

  live("all services of a program with one schema share one subscription", function*() {
    let subscriptions = 0
    const counted = yield* changed((pg) => ({
      listen: (channel) =>
        Effect.suspend(() => {
          subscriptions++
          return pg.listen(channel)
        })
    }))
    const services = Layer.mergeAll(
      PostgresReducer.layer({ schema: "one" }),
      PostgresRateLimiter.layer({ schema: "one", rate: { limit: 1000, window: "1 second" } }),
      PostgresScheduler.layer({ schema: "one", concurrency: 1 })
    )
    const context = yield* Layer.build(Layer.provide(services, counted))
    for (let i = 0; i < 3; i++) {
      yield* Effect.provideContext(Scheduler.schedule(RateLimiter.consume()), context)
      yield* Effect.sleep(20)
    }
    expect(subscriptions).toBe(1)
  })

  live("a failure of the server tells its reason, and one without words that of the client", function*() {
    for (const [cause, told] of [[new Error("disk full"), "disk full"], [new AggregateError([]), "no connection"]]) {
      const reason = new ConnectionError({ cause, message: "no connection" })
      const failing = yield* changed((pg) => ({
        withoutTransforms: () => Object.assign(() => {}, pg, { unsafe: () => Effect.fail(new SqlError({ reason })) })
      }))
      const limiter = yield* Effect.provide(
        PostgresRateLimiter.make({ rate: { limit: 1, window: 1 }, outageBudget: 0 }),
        failing
      )
      expect((yield* Effect.flip(limiter.consume())).reason.message).toBe(`store command \`take\` failed: ${told}`)
    }
  })
})

describe.skipIf(!hasPostgres)("the schema in PostgreSQL", () => {
  live(
    "many clients that come first at once make it once, and a lost one is made again with larger fences",
    function*() {
      const all = yield* Effect.all(
        Array.from({ length: 6 }, () => Effect.flatMap(server, (_) => database(_, "fresh_1"))),
        { concurrency: "unbounded" }
      )
      const join = { key: "=k", owner: "o", party: "t c", lease: 1000 }
      const fenceOf = (answer: unknown) => (answer as { readonly fence: number }).fence
      const fences = yield* Effect.forEach(all, ({ database }) => database.call("join", "join_flight", join, fenceOf), {
        concurrency: "unbounded"
      })
      expect(new Set(fences).size).toBe(1)
      const { database: one, pg } = all[0]!
      yield* pg.unsafe("DROP SCHEMA fresh_1 CASCADE")
      const refused = yield* Effect.flip(one.call("join", "join_flight", join, fenceOf))
      expect(refused.operation).toBe("join")
      expect(yield* one.call("join", "join_flight", join, fenceOf)).toBeGreaterThan(fences[0]!)
    }
  )

  live("a table or a function that was dropped alone is made again, and what is left of the others stays", function*() {
    const { database: one, pg } = yield* database(yield* server, "fresh_2")
    const take = { key: "=k", tokens: [1], most: 1e12, intervals: [1e9], bursts: [1] }
    const waitOf = (answer: unknown) => (answer as { readonly waits: ReadonlyArray<number> }).waits[0]!
    const call = one.call("take", "take", take, waitOf)
    expect(yield* call).toBe(0)
    for (const what of ["TABLE fresh_2.rates CASCADE", "FUNCTION fresh_2.put_rate", "SEQUENCE fresh_2.places"]) {
      yield* pg.unsafe(`DROP ${what}`)
      const exit = yield* Effect.exit(call)
      expect(String(exit)).toContain("store command `take` failed")
      const wait = yield* call
      if (what.startsWith("TABLE")) expect(wait).toBe(0)
      else expect(wait).toBeGreaterThan(0)
    }
  })

  live("a schema of an older release is brought up to date, and one of a newer release is left as it is", function*() {
    const of = yield* server
    const acquire = { key: "=k", party: "a b", lease: 1e9, limit: 1, permits: [{ id: "a", weight: 1 }] }
    for (const [version, granted] of [[0, 1], [2, 7]] as const) {
      const schema = `release_${version}`
      const { database: one, pg } = yield* database(of, schema)
      const other = migration(schema).replaceAll("version_1", `version_${version}`).replace(
        "'granted', granted",
        "'granted', 7"
      )
      yield* pg.unsafe(other)
      const answer = yield* one.call("acquire", "acquire", acquire, (answer) => answer)
      expect(answer).toMatchObject({ granted })
    }
  })

  live(
    "a role without CREATE on the database makes everything in a schema of its own, and another one only uses it",
    function*() {
      const of = yield* server
      const { pg } = yield* database(of)
      for (
        const statement of [
          "CREATE ROLE has_schema LOGIN",
          "CREATE SCHEMA fresh_3 AUTHORIZATION has_schema",
          "CREATE ROLE has_rights LOGIN"
        ]
      ) yield* pg.unsafe(statement)
      const as = Effect.fnUntraced(function*(role: string) {
        const url = Redacted.make(Redacted.value(of.url).replace("postgres@", `${role}@`))
        const client = Layer.fresh(PgClient.layer({ url, maxConnections: 4 }))
        const options = { schema: "fresh_3", outageBudget: 0, onStoreError: "fail" } as const
        const services = Layer.mergeAll(
          PostgresReducer.layer(options),
          PostgresRateLimiter.layer({ ...options, rate: { limit: 1000, window: "1 second" } }),
          PostgresScheduler.layer({ ...options, concurrency: 1 })
        )
        const context = yield* Layer.build(Layer.provide(services, client))
        return Effect.provideContext(
          Effect.andThen(
            reduceShared(new Get({ id: role }), () => Effect.succeed(1)),
            Scheduler.schedule(Effect.andThen(RateLimiter.penalize({ for: 1 }), RateLimiter.consume()))
          ),
          context
        )
      })
      yield* yield* as("has_schema")
      yield* pg.unsafe("GRANT USAGE ON SCHEMA fresh_3 TO has_rights")
      yield* pg.unsafe("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fresh_3 TO has_rights")
      yield* pg.unsafe("GRANT USAGE ON ALL SEQUENCES IN SCHEMA fresh_3 TO has_rights")
      yield* yield* as("has_rights")
    }
  )

  live("a default of REPEATABLE READ is refused with an error that says so", function*() {
    const pg = yield* Layer.build(Layer.fresh(PgClient.layer({
      url: (yield* server).url,
      startupParameters: { default_transaction_isolation: "repeatable read" }
    })))
    const limiter = yield* Effect.provideContext(
      PostgresRateLimiter.make({ rate: { limit: 1, window: "1 second" }, outageBudget: 0 }),
      pg
    )
    const { reason } = yield* Effect.flip(limiter.consume())
    if (reason._tag !== "StoreError") throw reason
    expect(reason.message).toContain("needs transactions that are READ COMMITTED, got repeatable read")
  })

  it("an invalid name is refused", () => {
    for (const schema of ["", "Upper", "1a", "a-b", "a\"; DROP SCHEMA public; --", "pg_x", "x".repeat(49)]) {
      expect(() => PostgresReducer.layer({ schema })).toThrow(RangeError)
      expect(() => PostgresRateLimiter.layer({ schema, rate: { limit: 1, window: 1 } })).toThrow(/schema must be/)
      expect(() => PostgresScheduler.layer({ schema, concurrency: 1 })).toThrow(/Scheduler.layer: schema/)
    }
    let asked = 0
    const lying = { toString: () => asked++ === 0 ? "a" : "a\"; DROP SCHEMA public; --", startsWith: () => false }
    // Sound for a test: JavaScript may pass it.
    expect(() => PostgresReducer.layer({ schema: lying as never })).toThrow(RangeError)
  })
})

describe.skipIf(!hasPostgres)("Services of one program over two databases", () => {
  live("each one asks its own", function*() {
    class Printer extends Scheduler.Service<Printer>()("app/Printer", { concurrency: 1 }) {}
    class Plotter extends Scheduler.Service<Plotter>()("app/Plotter", { concurrency: 1 }) {}
    const { pg } = yield* database(yield* server, "other")
    yield* pg.unsafe("CREATE DATABASE other")
    const url = Redacted.make(Redacted.value((yield* server).url).replace(/postgres$/, "other"))
    const schema = "two_databases"
    const context = yield* Layer.build(Layer.mergeAll(
      PostgresScheduler.layerService(Printer, { concurrency: 1, schema }).pipe(Layer.provide(layerPg(yield* server))),
      PostgresScheduler.layerService(Plotter, { concurrency: 1, schema }).pipe(
        Layer.provideMerge(PgClient.layer({ url, maxConnections: 4 }))
      )
    ))
    const held = Effect.provideContext(
      Effect.flatMap(PgClient.PgClient, (other) => other.unsafe("SELECT key FROM two_databases.permits")),
      context
    )
    yield* Effect.provideContext(
      Plotter.schedule(Effect.gen(function*() {
        expect(yield* held).toEqual([{ key: "=effect-funnel:1:p:app/Plotter" }])
      })),
      context
    )
  })
})
