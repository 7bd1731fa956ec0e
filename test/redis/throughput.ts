/**
 * How many calls two processes make through one Redis, on a server on the loopback interface. A part of `npm run redis:figures`.
 *
 * The file is also the program of those processes.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import * as RateLimiter from "effect-funnel/RateLimiter"
import type * as Reducer from "effect-funnel/Reducer"
import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
import * as RedisReducer from "effect-funnel/redis/Reducer"
import { reduceShared } from "effect-funnel/SharedReducer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import { type ChildProcess, fork } from "node:child_process"
import type { RedisServer } from "../support/redisServer.ts"

class Get extends Persistable.Class<{ payload: { readonly id: string } }>()("Get", {
  primaryKey: (_) => _.id,
  success: Schema.String
}) {}

type Services = RateLimiter.RateLimiter | Reducer.Reducer

/** What a process does `count` times, from `width` fibers. */
interface Task {
  readonly kind: "decisions" | "flights"
  readonly count: number
  readonly keys: number
  readonly width: number
}

const work = async (url: string) => {
  const client = NodeRedis.layer({ url, disableOfflineQueue: true, commandOptions: { timeout: 0 } })
  const runtime = ManagedRuntime.make(
    Layer.mergeAll(
      RedisRateLimiter.layer({ rate: { limit: 1000, window: "1 second", burst: 1000 } }),
      RedisReducer.layer({ onStoreError: "fail" })
    ).pipe(Layer.provide(client))
  )
  const calls = {
    decisions: (key: number) => RateLimiter.consume({ key: `key ${key}` }),
    flights: (key: number) => reduceShared(new Get({ id: `${process.pid} ${key}` }), () => Effect.succeed("x"))
  }
  process.on("message", ({ count, keys, kind, width }: Task) => {
    const call: (key: number) => Effect.Effect<unknown, unknown, Services> = calls[kind]
    const all = Array.from({ length: count }, (_, i) => i % keys)
    const before = process.cpuUsage()
    runtime.runPromise(Effect.forEach(all, call, { concurrency: width, discard: true })).then(
      () => {
        const { system, user } = process.cpuUsage(before)
        process.send?.(user + system)
      },
      (error: unknown) => process.send?.(String(error))
    )
  })
  process.on("disconnect", () => process.exit(0))
  await runtime.runPromise(Effect.void)
  process.send?.(0)
}

const answer = (child: ChildProcess) =>
  new Promise<number>((resolve, reject) =>
    child.once(
      "message",
      (message) => typeof message === "number" ? resolve(message) : reject(new Error(String(message)))
    )
  )

export interface Throughput {
  readonly perSecond: number
  /** Microseconds of CPU for one of them, in its process and in the server. */
  readonly clientMicros: number
  readonly serverMicros: number
}

/** Runs the task in each of so many processes, once to warm up and then `repeat` times; returns the median. */
export const measure = async (
  server: RedisServer,
  processes: number,
  task: Task,
  repeat = 3
): Promise<Throughput> => {
  const usage = async () => {
    const text = await server.command("INFO", "cpu")
    return ["user", "sys"].reduce(
      (sum, kind) => sum + Number(new RegExp(`used_cpu_${kind}:([0-9.]+)`).exec(text)![1]),
      0
    )
  }
  const children = Array.from(
    { length: processes },
    () => fork(import.meta.filename, [server.url], { stdio: "inherit" })
  )
  try {
    await Promise.all(children.map((child) => answer(child)))
    const run = async (task: Task): Promise<Throughput> => {
      const before = await usage()
      const at = performance.now()
      const done = Promise.all(children.map((child) => answer(child)))
      for (const child of children) child.send(task)
      const used = await done
      const all = task.count * processes
      return {
        perSecond: (all * 1000) / (performance.now() - at),
        clientMicros: used.reduce((sum, micros) => sum + micros, 0) / all,
        serverMicros: ((await usage() - before) * 1e6) / all
      }
    }
    await run({ ...task, count: Math.ceil(task.count / 4) })
    const runs: Array<Throughput> = []
    for (let i = 0; i < repeat; i++) runs.push(await run(task))
    return runs.toSorted((a, b) => a.perSecond - b.perSecond)[Math.floor(repeat / 2)]!
  } finally {
    for (const child of children) child.disconnect()
  }
}

if (process.send !== undefined && process.argv[2] !== undefined) await work(process.argv[2])
