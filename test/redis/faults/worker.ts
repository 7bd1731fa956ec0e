/**
 * A process under test. It obeys the parent over IPC and reports the beginning and the end of each run.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import * as RateLimiter from "../../../src/RateLimiter.js"
import type * as Reducer from "../../../src/Reducer.js"
import { type Lease, type ReducerError, reduceShared } from "../../../src/SharedReducer.js"
import * as Scheduler from "../../../src/Scheduler.js"
import type { Share } from "./harness.ts"
import { census, clock, describe, Keys, runtime, serve, tell, Text } from "./subject.ts"

/** The same key with another schema. */
class Numeric extends Persistable.Class<{ payload: { readonly key: string } }>()("Shared", {
  primaryKey: (_) => _.key,
  success: Schema.Number
}) {}

let runs = 0
const work = (key: string, millis: number, size: number) => ({ fence }: Lease) =>
  Effect.suspend(() => {
    const id = `${process.pid}:${++runs}`
    tell({ event: "start", id, key, fence })
    return Effect.sleep(millis).pipe(
      Effect.as(id + "é".repeat(Math.max(0, size))),
      Effect.onExit((exit) => Effect.sync(() => tell({ event: "end", id, how: exit._tag })))
    )
  })

const summary = (results: ReadonlyArray<ReturnType<typeof describe>>) => ({
  ok: results.filter((_) => _.ok !== undefined).length,
  values: [...new Set(results.flatMap((_) => _.ok ?? []))],
  errors: results.flatMap((_) => _.error ?? [])
})

const fibers = new Map<string, Array<Fiber.Fiber<unknown, unknown>>>()

const operations: Record<string, (args: never) => Promise<unknown>> = {
  ready: () => runtime.runPromise(Effect.void),
  share: async ({ callers = 1, key, millis, name = key, numeric = false, size = 0 }: Share) => {
    const call: Effect.Effect<unknown, ReducerError, Reducer.Reducer> = numeric
      ? reduceShared(new Numeric({ key }), (lease) => Effect.as(work(key, millis, size)(lease), 1))
      : reduceShared(new Text({ key }), work(key, millis, size))
    const all = Array.from({ length: callers }, () => runtime.runFork(call))
    fibers.set(name, all)
    const exits = await Promise.all(all.map((fiber) => Effect.runPromise(Fiber.await(fiber))))
    fibers.delete(name)
    return summary(exits.map(describe))
  },
  interrupt: async ({ count = Infinity, name }: { name: string; count?: number }) => {
    const all = fibers.get(name) ?? []
    await Effect.runPromise(Fiber.interruptAll(all.slice(0, count)))
  },
  /** Runs many flights, `width` at a time. */
  flights: ({ count, fibers: width, keys }: { count: number; fibers: number; keys: number }) =>
    runtime.runPromise(
      Effect.forEach(Array.from({ length: count }, (_, i) => i), (i) =>
        reduceShared(new Text({ key: `flight ${i % keys}` }), () => Effect.succeed("x")), {
        concurrency: width,
        discard: true
      })
    ),
  /** One call for each key, all at once: shared runs, and admissions. */
  crowd: async ({ count }: { count: number }) => {
    const keys = Array.from({ length: count }, (_, i) => `crowd ${i}`)
    const all = <
      A,
      E extends { readonly _tag: string },
      R extends ManagedRuntime.ManagedRuntime.Services<typeof runtime>
    >(
      f: (key: string) => Effect.Effect<A, E, R>
    ) =>
      runtime.runPromise(Effect.forEach(keys, (key) => Effect.exit(f(key)), { concurrency: "unbounded" })).then((_) =>
        summary(_.map(describe)).errors
      )
    return {
      flights: await all((key) => reduceShared(new Text({ key }), () => Effect.succeed("x"))),
      tokens: await all((key) => RateLimiter.consume({ key })),
      jobs: await all((key) => Keys.schedule(key, Effect.void))
    }
  },
  heavy: ({ weight }: { weight: number }) => runtime.runPromise(Scheduler.schedule(Effect.sleep(50), { weight })),
  consume: async ({ count, millis }: { count: number; millis: number }) => {
    const times: Array<number> = []
    const exits = await runtime.runPromise(
      Effect.forEach(
        Array.from({ length: count }),
        () => Effect.exit(Effect.tap(RateLimiter.consume(), () => Effect.sync(() => void times.push(clock())))),
        { concurrency: "unbounded" }
      ).pipe(Effect.timeoutOption(millis))
    )
    return { times, errors: exits._tag === "Some" ? exits.value.map(describe).flatMap((_) => _.error ?? []) : [] }
  },
  schedule: async ({ count, millis }: { count: number; millis: number }) =>
    summary(
      (await runtime.runPromise(Effect.forEach(
        Array.from({ length: count }),
        () => Effect.exit(Scheduler.schedule(work("job", millis, 0)({ fence: 0 }))),
        { concurrency: "unbounded" }
      ))).map(describe)
    ),
  /** One job for each key. */
  keys: async ({ count, millis }: { count: number; millis: number }) =>
    summary(
      (await runtime.runPromise(Effect.forEach(
        Array.from({ length: count }, (_, i) => `key ${i}`),
        (key) => Effect.exit(Keys.schedule(key, work(key, millis, 0)({ fence: 0 }))),
        { concurrency: "unbounded" }
      ))).map(describe)
    ),
  /** One job for each key, which runs until `letGo`. Returns when so many run. */
  hold: async ({ count, running }: { count: number; running: number }) => {
    let begun = 0
    await new Promise<void>((resolve) => {
      if (running === 0) resolve()
      const job = Effect.suspend(() => {
        if (++begun === running) resolve()
        return Effect.never
      })
      fibers.set("held", Array.from({ length: count }, (_, i) => runtime.runFork(Keys.schedule(`key ${i}`, job))))
    })
  },
  letGo: async () => {
    await Effect.runPromise(Fiber.interruptAll(fibers.get("held") ?? []))
  },
  penalize: ({ key, millis }: { key: string; millis: number }) =>
    runtime.runPromise(Effect.flatMap(Keys.get(key), (_) => _.penalize({ for: millis }))),
  sizeOfKeys: () => runtime.runPromise(Keys.size),
  census,
  wallClock: async () => Date.now()
}

serve(operations)
