/**
 * Tests code that uses Funnel: with no-op layers, if a test is not about the limits, and with TestClock, if it is. With
 * @effect/vitest, the programs below are the bodies of `it.effect`, which provides the clock.
 *
 *     npm run example -- testing
 *
 * It prints:
 *
 *     no-op: 5 forecasts after 0 s
 *     real, after 0 s: 1 of 5 asked for
 *     real, after 2 s: 3 of 5 asked for
 *     real, after 4 s: 5 forecasts
 */
import { Clock, Console, Effect, Fiber } from "effect"
import { Reducer, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"

// The code under test: one forecast a city, shared by its callers, and one start a second.
let asked = 0
const lookUp = (city: string) => Effect.sync(() => `${city}: ${++asked} °C`)
const forecast = (city: string) => Scheduler.schedule(Reducer.reduce(city, lookUp(city)))
const cities = ["Oslo", "Lima", "Rome", "Cairo", "Quito"]
const forecasts = Effect.forEach(cities, forecast, { concurrency: "unbounded" })

// No-op layers limit nothing and reduce nothing: the test covers the code around them.
const logic = Effect.gen(function*() {
  const found = yield* forecasts
  yield* Console.log(`no-op: ${found.length} forecasts after ${(yield* Clock.currentTimeMillis) / 1000} s`)
}).pipe(Effect.provide([Scheduler.layerNoop, Reducer.layerNoop]))

// The real layers under virtual time: the test does not wait, and asserts the pace exactly.
const pace = Effect.gen(function*() {
  asked = 0
  const fiber = yield* Effect.forkChild(forecasts, { startImmediately: true })
  yield* TestClock.adjust(0)
  yield* Console.log(`real, after 0 s: ${asked} of 5 asked for`)
  yield* TestClock.adjust("2 seconds")
  yield* Console.log(`real, after 2 s: ${asked} of 5 asked for`)
  yield* TestClock.adjust("2 seconds")
  yield* Console.log(`real, after 4 s: ${(yield* Fiber.join(fiber)).length} forecasts`)
}).pipe(
  Effect.provide([
    Scheduler.layer({ concurrency: 10, rate: { limit: 1, window: "1 second" } }),
    Reducer.layer()
  ])
)

// Each program has its own clock, which starts at 0.
for (const test of [logic, pace]) await Effect.runPromise(Effect.provide(test, TestClock.layer()))
