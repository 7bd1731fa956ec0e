/**
 * Measures the cost of coordination through PostgreSQL, on its own server on the loopback interface, which does not wait for
 * the disk: `npm run postgres:figures`. The same rows as `npm run redis:figures`, as far as both have them.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import Table from "cli-table3"
import * as PostgresRateLimiter from "effect-funnel/postgres/RateLimiter"
import * as PostgresReducer from "effect-funnel/postgres/Reducer"
import * as PostgresScheduler from "effect-funnel/postgres/Scheduler"
import * as Reducer from "effect-funnel/Reducer"
import { reduceShared } from "effect-funnel/SharedReducer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import { buildWhenStale } from "../../scripts/build.ts"
import { postgresServer } from "../support/postgresServer.ts"

await buildWhenStale()

class Get extends Persistable.Class<{ payload: { readonly id: string } }>()("Get", {
  primaryKey: (_) => _.id,
  success: Schema.String
}) {}

const table = new Table({
  head: ["", "p50, ms", "p95, ms", "a second"],
  colAligns: ["left", "right", "right", "right"],
  style: { head: [], border: [], compact: true }
})

const row = Effect.fnUntraced(function*<E, R>(name: string, at: number, effect: Effect.Effect<unknown, E, R>) {
  const times: Array<number> = []
  const timed = Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, () => void times.push(performance.now() - began))
  })
  const many = (count: number) =>
    Effect.all(Array.from({ length: count }, () => timed), { concurrency: at, discard: true })
  yield* many(300)
  times.length = 0
  const began = performance.now()
  yield* many(at === 1 ? 1000 : 3000)
  const seconds = (performance.now() - began) / 1000
  const quantile = (q: number) => times.toSorted((a, b) => a - b)[Math.floor(times.length * q)]!.toFixed(2)
  table.push([name, quantile(0.5), quantile(0.95), Math.round(times.length / seconds)])
})

const program = Effect.gen(function*() {
  const { url } = yield* postgresServer
  const own = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.flatMap(
      Layer.build(Layer.fresh(PgClient.layer({ url, maxConnections: 10 }))),
      (context) => Effect.provideContext(effect, context)
    )
  const reducer = yield* own(PostgresReducer.make())
  let calls = 0
  const flight = Effect.suspend(() => reduceShared(new Get({ id: `${calls++}` }), () => Effect.succeed("x"))).pipe(
    Effect.provideService(Reducer.Reducer, reducer)
  )
  yield* row("a shared flight that nobody else wants", 1, flight)
  yield* row("the same, 50 at once", 50, flight)
  const limiter = yield* own(PostgresRateLimiter.make({ rate: { limit: 1e9, window: "1 second", burst: 1e6 } }))
  yield* row("one decision", 1, limiter.consume())
  yield* row("one decision, 100 waiting for one key", 100, limiter.consume())
  yield* row("one decision, 50 keys at once", 50, Effect.suspend(() => limiter.consume({ key: `${calls++ % 50}` })))
  const scheduler = yield* own(PostgresScheduler.make({ name: "bench", concurrency: 50 }))
  yield* row("a permit that is free", 1, scheduler.schedule(Effect.void))
  yield* row("a permit, 50 jobs at once", 50, scheduler.schedule(Effect.void))
})

await Effect.runPromise(Effect.scoped(program))
console.log(table.toString())
