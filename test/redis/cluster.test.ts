/**
 * A real Redis Cluster: three masters, and a replica of the first.
 */
import { NodeRedis } from "@effect/platform-node"
import { afterAll, beforeAll, describe, expect } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Redis from "effect/persistence/Redis"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { createCluster } from "redis"
import * as RateLimiter from "../../src/RateLimiter.js"
import * as RedisRateLimiter from "../../src/redis/RateLimiter.js"
import { type ClusterClient, layerBackground, layerCluster } from "../../src/redis/Redis.js"
import * as RedisReducer from "../../src/redis/Reducer.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Scheduler from "../../src/Scheduler.js"
import { reduceShared } from "../../src/SharedReducer.js"
import { live } from "../support/live.js"
import { freePort, hasRedis, type RedisServer, redisServer } from "../support/redisServer.js"

const slots = 16_384

const ask = (server: RedisServer, ...words: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const answer = await server.command(...words)
    if (answer.startsWith("-")) throw new Error(`${words.join(" ")}: ${answer}`)
    return answer
  })

const until = <A>(holds: Effect.Effect<A>, f: (value: A) => boolean) =>
  holds.pipe(Effect.delay(50), Effect.repeat({ until: f }), Effect.timeout("20 seconds"), Effect.orDie)

const idOf = (server: RedisServer) => Effect.map(ask(server, "CLUSTER", "MYID"), (_) => _.split("\r\n")[1]!)

const cluster = Effect.gen(function*() {
  const node = Effect.flatMap(
    Effect.promise(freePort),
    (bus) =>
      redisServer({}, ["--cluster-enabled", "yes", "--cluster-port", String(bus), "--cluster-node-timeout", "1000"])
  )
  const masters = yield* Effect.all([node, node, node])
  const replica = yield* node
  const [first] = masters
  for (const [i, { port }] of masters.entries()) {
    const from = Math.ceil(i * slots / 3)
    yield* ask(masters[i]!, "CLUSTER", "ADDSLOTSRANGE", String(from), String(Math.ceil((i + 1) * slots / 3) - 1))
    yield* ask(masters[i]!, "CLUSTER", "SET-CONFIG-EPOCH", String(i + 1))
    if (i > 0) yield* meet(first, port, masters[i]!)
  }
  yield* meet(first, replica.port, replica)
  const all = [...masters, replica]
  for (const server of all) {
    yield* until(ask(server, "CLUSTER", "INFO"), (_) => _.includes("cluster_state:ok") && _.includes("known_nodes:4"))
  }
  yield* ask(replica, "CLUSTER", "REPLICATE", yield* idOf(first))
  yield* until(ask(replica, "INFO", "replication"), (_) => _.includes("master_link_status:up"))
  return { masters, replica }
})

/** The bus of a node has a port of its own, which `MEET` is told. */
const meet = (server: RedisServer, port: number, other: RedisServer) =>
  Effect.gen(function*() {
    const bus = other.more[other.more.indexOf("--cluster-port") + 1]!
    yield* ask(server, "CLUSTER", "MEET", "127.0.0.1", String(port), bus)
  })

class GetText extends Persistable.Class<{ payload: { readonly key: string } }>()("GetText", {
  primaryKey: (_) => _.key,
  success: Schema.String
}) {}

const services = (client: Layer.Layer<Redis.Redis>) =>
  Layer.build(Layer.fresh(
    Layer.mergeAll(
      RedisReducer.layer({ onStoreError: "fail", outageBudget: "15 seconds" }),
      RedisRateLimiter.layer({ rate: { limit: 100_000, window: "1 second" }, outageBudget: "15 seconds" }),
      RedisScheduler.layer({ concurrency: 2, outageBudget: "15 seconds", lease: "5 seconds" })
    ).pipe(Layer.provide(client))
  ))

describe.skipIf(!hasRedis)("a Redis Cluster", () => {
  // One for all, and the law that ends a master is the last.
  const scope = Scope.makeUnsafe()
  let nodes: Effect.Success<typeof cluster>
  beforeAll(async () => {
    nodes = await Effect.runPromise(Scope.provide(cluster, scope))
  }, 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  live(
    "calls for keys of all nodes in one turn are served, each once, also by a client that a program has made itself",
    function*() {
      const { masters } = nodes
      const client = createCluster({ rootNodes: masters.map(({ url }) => ({ url })) })
      yield* Effect.acquireRelease(
        Effect.promise(() => client.connect()),
        () => Effect.sync(() => client.destroy())
      )
      const own = Layer.effect(
        Redis.Redis,
        Redis.make({
          // Sound for a test: the caller knows the type of the reply.
          send: ((command: string, ...args: ReadonlyArray<string>) =>
            Effect.tryPromise({
              try: () =>
                command === "SCRIPT"
                  ? Promise.all(
                    client.masters.map(async (node) => (await client.nodeClient(node)).sendCommand([command, ...args]))
                  ).then(([sha]) => sha)
                  : client.sendCommand(command === "EVALSHA" ? args[2] : args[0], false, [command, ...args]),
              catch: (cause) => new Redis.RedisError({ cause })
            })) as Redis.Redis["Service"]["send"],
          connect: Effect.fail(new Redis.RedisError({ cause: "none" })),
          subscribe: () => Effect.succeed(Effect.never)
        })
      )
      const ready = layerCluster(() => createCluster({ rootNodes: masters.map(({ url }) => ({ url })) }))
      for (const layer of [own, Layer.orDie(ready)]) {
        const context = yield* Layer.build(Layer.fresh(
          Layer.mergeAll(
            RedisRateLimiter.layer({ rate: { limit: 1, window: "1 hour", burst: 2 }, prefix: `${layer === own}` }),
            RedisReducer.layer({ onStoreError: "fail", prefix: `${layer === own}` })
          ).pipe(Layer.provide(layer))
        ))
        const keys = Array.from({ length: 200 }, (_, i) => String(i))
        let runs = 0
        const call = (key: string) =>
          Effect.all([
            RateLimiter.consume({ key, onExceeded: "fail" }),
            reduceShared(new GetText({ key }), () => Effect.sync(() => String(++runs)))
          ], { concurrency: 2 })
        for (const remaining of [1, 0]) {
          const all = yield* Effect.provideContext(Effect.forEach(keys, call, { concurrency: "unbounded" }), context)
          expect(all.every(([taken]) => taken.remaining === remaining)).toBe(true)
        }
        expect(runs).toBe(400)
        const third = yield* Effect.provideContext(
          Effect.forEach(keys, (key) => Effect.exit(RateLimiter.consume({ key, onExceeded: "fail" })), {
            concurrency: "unbounded"
          }),
          context
        )
        expect(third.every((exit) => exit._tag === "Failure")).toBe(true)
      }
    }
  )

  live("a cluster that is closed while it connects has no connection in the end", function*() {
    const connected = yield* Deferred.make<void>()
    const asked = yield* Deferred.make<void>()
    let isOpen = false
    const client: ClusterClient = {
      connect: async () => {
        Deferred.doneUnsafe(asked, Exit.void)
        await Effect.runPromise(Deferred.await(connected))
        isOpen = true
      },
      destroy: () => void (isOpen = false),
      on: () => undefined,
      sendCommand: async () => undefined,
      subscribe: async () => undefined,
      unsubscribe: async () => undefined
    }
    const scope = yield* Scope.make()
    const building = yield* Effect.forkChild(Layer.buildWithScope(layerCluster(() => client), scope))
    yield* Deferred.await(asked)
    yield* Fiber.interrupt(building)
    yield* Scope.close(scope, Exit.void)
    yield* Deferred.succeed(connected, undefined)
    yield* Effect.sleep(10)
    expect(isOpen).toBe(false)
  })

  live("a client of one node fails with an error that names the layer of clusters", function*() {
    const { masters } = nodes
    const layer = Layer.orDie(NodeRedis.layer({ url: masters[0].url, disableOfflineQueue: true }))
    const context = yield* Layer.build(
      Layer.mergeAll(
        RedisRateLimiter.layer({ rate: { limit: 1000, window: "1 second" }, outageBudget: 0 }),
        RedisScheduler.layer({ concurrency: 1, prefix: "x", outageBudget: 0 })
      ).pipe(Layer.provide(layer))
    )
    const errors = yield* Effect.forEach(
      Array.from({ length: 10 }),
      (_, i) => Effect.exit(Effect.provideContext(RateLimiter.consume({ key: String(i) }), context))
    )
    expect(errors.map(String).join()).toContain(
      "Redis is a cluster, use layerCluster of effect-funnel/redis/Redis (MOVED"
    )
  })

  live("keys of all nodes are shared, also while their slots move and a master fails over", function*() {
    const { masters, replica } = nodes
    const client = () =>
      Layer.fresh(layerBackground(layerCluster(() =>
        createCluster({
          rootNodes: masters.map(({ url }) => ({ url })),
          defaults: { disableOfflineQueue: true },
          commandOptions: { timeout: 0 }
        })
      )))
    const [a, b] = yield* Effect.all([services(client()), services(client())])
    yield* Effect.sleep(500)
    let runs = 0
    let round = 0
    const shared = (key: string) =>
      reduceShared(new GetText({ key }), () => Effect.delay(Effect.sync(() => String(++runs)), "150 millis"))
    const all = Effect.suspend(() => {
      const keys = Array.from({ length: 40 }, (_, i) => `${round}:${i}`)
      round++
      const once = Effect.forEach(keys, (key) => Effect.andThen(RateLimiter.consume({ key }), shared(key)), {
        concurrency: "unbounded"
      })
      const job = Scheduler.schedule(Effect.sleep(5))
      return Effect.all([
        Effect.provideContext(once, a),
        Effect.provideContext(once, b),
        Effect.provideContext(job, a),
        Effect.provideContext(job, b)
      ], { concurrency: "unbounded" })
    })
    const [ofA, ofB] = yield* all
    expect(ofB).toEqual(ofA)
    expect(runs).toBe(40)

    // A slot of the permits moves to the next node while they are used.
    const moving = yield* Effect.forkChild(Effect.forEach([1, 2, 3], () => all))
    const slot = (yield* ask(masters[0], "CLUSTER", "KEYSLOT", "{effect-funnel:1:p:effect-funnel/Scheduler}")).slice(1)
      .trim()
    const owner = masters[Math.min(2, Math.floor(Number(slot) / Math.ceil(slots / 3)))]!
    const target = masters.find((_) => _ !== owner)!
    yield* ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", yield* idOf(owner))
    yield* ask(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", yield* idOf(target))
    const present = ask(owner, "CLUSTER", "GETKEYSINSLOT", slot, "100").pipe(
      Effect.map((_) => _.split("\r\n").filter((_) => _.startsWith("{")))
    )
    for (const key of yield* present) {
      yield* ask(owner, "MIGRATE", "127.0.0.1", String(target.port), key, "0", "1000")
    }
    yield* Effect.sleep(100)
    for (const key of yield* present) {
      yield* ask(owner, "MIGRATE", "127.0.0.1", String(target.port), key, "0", "1000")
    }
    for (const server of [target, owner]) yield* ask(server, "CLUSTER", "SETSLOT", slot, "NODE", yield* idOf(target))
    yield* Fiber.join(moving)

    yield* Effect.promise(() => masters[0].stop())
    yield* all
    expect(yield* ask(replica, "INFO", "replication")).toContain("role:master")
  })
})
