/**
 * A hundred carts ask for exchange rates at the same time, some for an unknown currency. The statistics count calls and
 * runs, overall and for each key. A hook of our own reports the failure.
 *
 *     npm run example -- hooks-statistics
 *
 * prints:
 *
 *     no rate for ZZZ, 25 carts affected
 *     100 calls, 4 runs, 96 joined: 3 succeeded, 1 failed
 *     CHF: 25 calls, 1 run
 *     EUR: 25 calls, 1 run
 *     USD: 25 calls, 1 run
 *     ZZZ: 25 calls, 1 run
 */
import { Console, Data, Effect, Order } from "effect"
import * as Arr from "effect/Array"
import { Hooks, Reducer } from "effect-funnel"

class UnknownCurrency extends Data.TaggedError("UnknownCurrency")<{ readonly currency: string }> {}

const rates: Record<string, number> = { CHF: 0.94, EUR: 1, USD: 1.08 }

const statistics = Hooks.statistics({ by: (event) => event.key })

class Rates extends Reducer.Service<Rates>()("example/Rates", {
  name: "rates",
  hooks: Hooks.combine(statistics, {
    onFailure: ({ callers, context, key }) => {
      Effect.runForkWith(context)(Console.log(`no rate for ${String(key)}, ${callers} carts affected`))
    }
  })
}) {}

/** A fake bank: an answer takes 20 ms. */
const rate = Rates.fn("rate")((currency: string) =>
  Effect.delay(
    Effect.suspend(() => {
      const found = rates[currency]
      return found === undefined ? Effect.fail(new UnknownCurrency({ currency })) : Effect.succeed(found)
    }),
    "20 millis"
  )
)

const program = Effect.gen(function*() {
  const carts = Array.from({ length: 100 }, (_, n) => ["CHF", "EUR", "USD", "ZZZ"][n % 4]!)
  yield* Effect.forEach(carts, (currency) => Effect.exit(rate(currency)), { concurrency: "unbounded" })

  const { calls, failed, joined, started, succeeded } = yield* statistics.overall
  yield* Console.log(`${calls} calls, ${started} runs, ${joined} joined: ${succeeded} succeeded, ${failed} failed`)
  const byKey = Order.mapInput(Order.String, ([key]: readonly [unknown, Hooks.Counts]) => String(key))
  for (const [key, { calls, started }] of Arr.sort(yield* statistics.groups, byKey)) {
    yield* Console.log(`${String(key)}: ${calls} calls, ${started} run`)
  }
})

await Effect.runPromise(Effect.provide(program, Rates.layer))
