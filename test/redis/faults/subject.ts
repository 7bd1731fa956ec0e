/**
 * What every process under test has: the layers over Redis or PostgreSQL, a request, and the wire to the parent.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Persistable from "effect/persistence/Persistable"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as RedisRateLimiter from "../../../src/redis/RateLimiter.js"
import { layerBackground } from "../../../src/redis/Redis.js"
import * as RedisReducer from "../../../src/redis/Reducer.js"
import * as RedisScheduler from "../../../src/redis/Scheduler.js"
import * as PostgresRateLimiter from "../../../src/postgres/RateLimiter.js"
import * as PostgresReducer from "../../../src/postgres/Reducer.js"
import * as PostgresScheduler from "../../../src/postgres/Scheduler.js"
import * as Scheduler from "../../../src/Scheduler.js"
import type { WorkerOptions } from "./harness.ts"

const options: WorkerOptions = JSON.parse(process.env.FAULTS_WORKER ?? "{}")

export class Keys extends Scheduler.Keyed<Keys>()("faults/Keys", { lookup: (_: string) => ({ concurrency: 1 }) }) {}

const limiter = { rate: { limit: 1000, window: "1 second" }, ...options.limiter } as const
const scheduler = { concurrency: 10, ...options.scheduler }
const keyed = { lookup: () => ({ concurrency: 1, ...options.keyed }), ...options.keyed }

const overRedis = () =>
  Layer.mergeAll(
    RedisReducer.layer(options.reducer),
    RedisRateLimiter.layer(limiter),
    RedisScheduler.layer(scheduler),
    RedisScheduler.layerKeyed(Keys, keyed)
  ).pipe(Layer.provide(layerBackground(
    NodeRedis.layer({ url: options.url, disableOfflineQueue: true, commandOptions: { timeout: 0 } })
  )))

const overPostgres = () =>
  Layer.mergeAll(
    PostgresReducer.layer(options.reducer),
    PostgresRateLimiter.layer(limiter),
    PostgresScheduler.layer(scheduler),
    PostgresScheduler.layerKeyed(Keys, keyed)
  ).pipe(Layer.provide(
    PgClient.layer({
      url: Redacted.make(options.url),
      maxConnections: 4,
      minConnections: 0,
      connectTimeout: "2 seconds"
    })
  ))

export const runtime = ManagedRuntime.make(
  Layer.suspend(() => options.url.startsWith("postgres") ? Layer.orDie(overPostgres()) : overRedis()).pipe(
    Layer.provideMerge(Logger.layer([]))
  )
)

export class Text extends Persistable.Class<{ payload: { readonly key: string } }>()("Shared", {
  primaryKey: (_) => _.key,
  success: Schema.String
}) {}

export const tell = (message: unknown) => {
  process.send?.(message)
}

/** What a call came to: its result as text, or the name of its error. */
export const describe = (
  exit: Exit.Exit<unknown, { readonly _tag: string; readonly reason?: { readonly _tag: string } }>
) => {
  if (Exit.isSuccess(exit)) return { ok: String(exit.value) }
  if (Cause.hasInterruptsOnly(exit.cause)) return { error: "interrupted" }
  const error = Cause.squash(exit.cause)
  if (typeof error !== "object" || error === null || !("_tag" in error)) return { error: String(error) }
  const reason = "reason" in error ? error.reason : undefined
  return {
    error: typeof reason === "object" && reason !== null && "_tag" in reason ? String(reason._tag) : String(error._tag)
  }
}

/** Milliseconds on an axis that all processes of this machine share. */
export const clock = () => Number(process.hrtime.bigint()) / 1e6

/** What a process holds of the event loop, of the network and of memory. */
export const census = async () => {
  globalThis.gc?.()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const resources = process.getActiveResourcesInfo()
  return {
    timers: resources.filter((_) => _ === "Timeout").length,
    sockets: resources.filter((_) => _.startsWith("TCP")).length,
    heap: process.memoryUsage().heapUsed
  }
}

/** Obeys the parent until it goes, or SIGTERM comes. */
export const serve = (operations: Record<string, (args: never) => Promise<unknown>>, onEnd: () => void = () => {}) => {
  process.on("message", ({ args, id, op }: { id: number; op: string; args: never }) => {
    operations[op]!(args).then(
      (result) => tell({ id, result }),
      (error: unknown) => tell({ id, error: error instanceof Error ? error.stack : String(error) })
    )
  })
  process.on("SIGTERM", () => {
    onEnd()
    void runtime.dispose().finally(() => process.exit(0))
  })
  process.on("disconnect", () => process.exit(0))
}
