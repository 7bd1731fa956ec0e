/**
 * The services inside each other, with callers that time out, race, are interrupted or cannot be: nobody hangs, and in the
 * end nothing is left.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, type Fiber, Layer, Scope, Stream } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import { fork } from "../support/fibers.ts"
import { random } from "../support/random.js"

const quota = { limit: 100, window: "1 second", burst: 3 } as const
class Shared extends RateLimiter.Service<Shared>()("test/Shared", quota) {}
class Outside extends Scheduler.Service<Outside>()("test/Outside", { concurrency: 3, rate: Shared }) {}
class Inside extends Scheduler.Service<Inside>()("test/Inside", { concurrency: 2, rate: Shared, maxQueued: 20 }) {}
class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", {
  lookup: (_: number) => ({ concurrency: 2, rate: quota })
}) {}

const services = Layer.mergeAll(Outside.layer, Inside.layer, Hosts.layer, Reducer.layer({})).pipe(
  Layer.provideMerge(Shared.layer)
)

type Services = Shared | Outside | Inside | Hosts | Reducer.Reducer
type Work = Effect.Effect<unknown, unknown, Services>

const simulate = (seed: number) =>
  Effect.gen(function*() {
    const next = random(seed)
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(services, scope)
    let active = 0
    let most = 0

    const work: () => Work = () => {
      const millis = next(40)
      const end: Effect.Effect<void, string> = next(6) === 0
        ? Effect.fail("no")
        : next(9) === 0
        ? Effect.die("bug")
        : Effect.void
      return Effect.acquireUseRelease(
        Effect.sync(() => {
          most = Math.max(most, ++active)
        }),
        () => Effect.andThen(millis === 0 ? Effect.void : Effect.sleep(millis), end),
        () => Effect.andThen(next(4) === 0 ? Effect.sleep(5) : Effect.void, Effect.sync(() => void active--))
      )
    }
    // Schedulers are entered in one order, and runs between them, as the documentation says.
    const inner = (): Work => Inside.schedule(work(), { tokens: next(3), weight: 1 + next(2), priority: next(2) })
    const reduced = (): Work => {
      const effect = next(3) === 0
        ? Inside.forEach([1, 2, 3], () => work(), { discard: true })
        : next(3) === 0
        ? Effect.andThen(Reducer.reduce(next(3) + 10, inner()), inner())
        : inner()
      return Reducer.reduce(next(3), effect)
    }
    const middle = (): Work => next(2) === 0 ? reduced() : Hosts.schedule(next(4), reduced())
    const outer = (): Work => {
      switch (next(6)) {
        case 0:
          return Outside.forEach([1, 2, 3, 4], () => middle())
        case 1:
          return Stream.runCollect(Stream.take(Outside.stream([1, 2, 3, 4], () => middle()), 2))
        case 2:
          return Outside.firstSuccess([middle(), middle(), middle()])
        case 3:
          return Outside.schedule(Effect.andThen(Outside.schedule(middle()), middle()))
        case 4:
          return Shared.withLimit(middle())
        default:
          return Outside.schedule(middle(), { tokens: next(4), weight: 1 + next(3) })
      }
    }
    const called = (): Work => {
      const effect = outer()
      switch (next(6)) {
        case 0:
          return Effect.timeout(effect, next(60) + 1)
        case 1:
          return Effect.race(effect, outer())
        case 2:
          return Effect.uninterruptible(effect)
        case 3:
          return Effect.flatMap(Effect.cached(effect), (cached) => Effect.all([cached, cached], { concurrency: 2 }))
        default:
          return effect
      }
    }

    const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
    for (let step = 0; step < 25; step++) {
      const what = next(8)
      if (what < 4) fibers.push(Effect.runForkWith(Context.merge(yield* Effect.context(), context))(called()))
      else if (what < 6 && fibers.length > 0) fibers[next(fibers.length)]!.interruptUnsafe()
      else yield* TestClock.adjust(next(30))
    }
    if (next(4) === 0) {
      const closing = yield* fork(Scope.close(scope, Exit.void))
      for (let i = 0; i < 40; i++) yield* TestClock.adjust(50)
      expect(closing.pollUnsafe(), "closing ends").toEqual(Exit.void)
    }
    for (let i = 0; i < 60; i++) yield* TestClock.adjust(50)
    const hang = fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
    expect(hang, "callers that hang").toBe(0)
    yield* Effect.gen(function*() {
      expect(yield* Outside.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      expect(yield* Inside.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      expect(yield* Reducer.inFlight).toEqual([])
    }).pipe(Effect.provideContext(context))
    expect(active, "finalizers that did not run").toBe(0)
    yield* Scope.close(scope, Exit.void)
    return most
  })

describe("the services inside each other", () => {
  it.effect("nobody hangs and nothing is left, whoever times out, races, is interrupted or cannot be", () =>
    Effect.gen(function*() {
      let most = 0
      for (let seed = 1; seed <= 100; seed++) {
        most = Math.max(
          most,
          yield* simulate(seed).pipe(
            Effect.catchCause((cause) => Effect.die(new Error(`seed ${seed}: ${Cause.squash(cause)}`)))
          )
        )
      }
      expect(most).toBeGreaterThan(1)
    }))
})
