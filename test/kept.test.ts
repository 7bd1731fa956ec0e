/** Nothing that has ended is reachable from what lives: chains of which each link leaves the next behind. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect } from "effect"
import { Reducer, Scheduler } from "effect-funnel"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

interface Link {
  readonly n: number
}
class Marker extends Context.Service<Marker, Link>()("test/Marker") {}

const length = 40

/** How many links of a chain are still there when its last one runs. Each has an object in its context and one in its effect. */
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

describe("what is kept of a chain in which each leaves the next behind", () => {
  it.live("of fibers alone: the last ones", () =>
    Effect.gen(function*() {
      expect(yield* kept((_, leave) => leave)).toBeLessThan(8)
    }))

  it.live("S5 of jobs: the last ones", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      expect(yield* kept((_, leave) => scheduler.schedule(leave))).toBeLessThan(8)
    }))

  it.live("S5 of jobs that waited in the queue: the last ones", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      expect(yield* kept((_, leave) => scheduler.schedule(Effect.andThen(leave, Effect.yieldNow)))).toBeLessThan(8)
    }))

  it.live("S6 of calls over items: the last ones", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      expect(yield* kept((n, leave) => scheduler.forEach([{ n }], () => leave))).toBeLessThan(8)
    }))

  it.live("R7 of runs: the last ones", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      expect(yield* kept((n, leave) => reducer.reduce(n, leave))).toBeLessThan(8)
    }))

  it.live("R7 S5 of runs in jobs in runs: the last ones", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      expect(yield* kept((n, leave) => reducer.reduce(n, scheduler.schedule(reducer.reduce(`${n}`, leave)))))
        .toBeLessThan(8)
    }))
})
