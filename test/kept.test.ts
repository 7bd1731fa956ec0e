/** No ended work is reachable from live work: chains in which each link leaves the next one behind. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber } from "effect"
import { Reducer, Scheduler } from "effect-funnel"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { fork } from "./support/fibers.ts"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

interface Link {
  readonly n: number
}
class Marker extends Context.Service<Marker, Link>()("test/Marker") {}

const length = 40

/** The number of links of a chain that are still reachable when its last one runs. Each link has an object in its context and one in its effect. */
const kept = (wrap: (n: number, leave: Effect.Effect<unknown>) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function*() {
    const links: Array<WeakRef<Link>> = []
    const done = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void>()
    const step = (n: number): Effect.Effect<unknown, unknown> => {
      if (n === length) return Effect.andThen(Deferred.succeed(done, undefined), Deferred.await(end))
      const own: Link = { n }
      const held: Link = { n }
      links.push(new WeakRef(own), new WeakRef(held))
      const leave = Effect.map(Effect.forkDetach(Effect.suspend(() => step(n + 1))), () => held.n)
      return Effect.provideService(wrap(n, leave), Marker, own)
    }
    yield* Effect.forkDetach(step(0))
    yield* Deferred.await(done)
    for (let i = 0; i < 5; i++) {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      collect()
    }
    const alive = links.filter((link) => link.deref() !== undefined).length
    yield* Deferred.succeed(end, undefined)
    return alive
  })

describe("a chain in which each link leaves the next one behind", () => {
  it.live("keeps only its last fibers", () =>
    Effect.gen(function*() {
      expect(yield* kept((_, leave) => leave)).toBeLessThan(8)
    }))

  it.live("S5 keeps only its last jobs", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      expect(yield* kept((_, leave) => scheduler.schedule(leave))).toBeLessThan(8)
    }))

  it.live("S5 keeps only its last jobs, if they waited in the queue", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      expect(yield* kept((_, leave) => scheduler.schedule(Effect.andThen(leave, Effect.yieldNow)))).toBeLessThan(8)
    }))

  it.live("S6 keeps only its last calls over items", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      expect(yield* kept((n, leave) => scheduler.forEach([{ n }], () => leave))).toBeLessThan(8)
    }))

  it.live("R7 keeps only its last runs", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      expect(yield* kept((n, leave) => reducer.reduce(n, leave))).toBeLessThan(8)
    }))

  it.live("R7 S5 keeps only its last runs, if they are nested in jobs and runs", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      expect(yield* kept((n, leave) => reducer.reduce(n, scheduler.schedule(reducer.reduce(`${n}`, leave)))))
        .toBeLessThan(8)
    }))
})

describe("a run that lasts", () => {
  it.live("keeps none of the schedulers that were used in it, except the last ones", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const links: Array<WeakRef<Link>> = []
      const use = (n: number) =>
        Effect.suspend(() => {
          const own: Link = { n }
          links.push(new WeakRef(own))
          const scheduled = Effect.flatMap(Scheduler.make({ concurrency: 1 }), (_) => _.schedule(Effect.yieldNow))
          return Effect.scoped(Effect.provideService(scheduled, Marker, own))
        })
      const alive = Effect.promise(async () => {
        for (let i = 0; i < 5; i++) {
          await new Promise((resolve) => setImmediate(resolve))
          collect()
        }
        return links.filter((link) => link.deref() !== undefined).length
      })
      const lasts = Effect.andThen(Effect.forEach(Array.from({ length }, (_, n) => n), use), alive)
      expect(yield* reducer.reduce("key", lasts)).toBeLessThan(8)
    }))
})

describe("a queue in which one job waits for long", () => {
  it.live("O1 keeps few of the jobs with a maxWait that have left it", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "1 hour" })
      yield* fork(scheduler.schedule(Effect.never))
      yield* fork(scheduler.schedule(Effect.never))
      const links: Array<WeakRef<Link>> = []
      for (let n = 0; n < 200; n++) {
        const own: Link = { n }
        links.push(new WeakRef(own))
        const leaves = Effect.provideService(scheduler.schedule(Effect.never), Marker, own)
        yield* Effect.flatMap(fork(leaves), Fiber.interrupt)
      }
      for (let i = 0; i < 5; i++) {
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        collect()
      }
      expect(links.filter((link) => link.deref() !== undefined).length).toBeLessThan(60)
    }))
})

describe("a large key", () => {
  it.live("is not kept by its hash", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const key = () => Array.from({ length: 200 }, (_, n): Link => ({ n }))
      const links = yield* Effect.suspend(() => {
        const own = key()
        return Effect.as(reducer.reduce(own, Effect.void), own.map((link) => new WeakRef(link)))
      })
      for (let i = 0; i < 5; i++) {
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        collect()
      }
      expect(links.filter((link) => link.deref() !== undefined).length).toBeLessThan(8)
    }))
})
