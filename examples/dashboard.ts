/**
 * Serves the dashboard of a shop with three faults in it, until Ctrl-C: a backend that answers 429 now and then, a tenant whose
 * jobs starve, and a backend that is stuck. docs/dashboard.md finds each of them on the page.
 *
 *     npm run example -- dashboard [port]
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Random, Request, Schedule } from "effect"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Dashboard from "effect-funnel/dashboard"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"

/** Prices are the same for all who ask at the same time. */
class Prices extends Reducer.Service<Prices>()("shop/Prices") {}

/** The database takes four queries at once. */
class Database extends Scheduler.Service<Database>()("shop/Database", { concurrency: 4 }) {}

/** The first fault: this backend allows 20 calls a second, and not 40. */
class Payments extends RateLimiter.Service<Payments>()("shop/Payments", { limit: 40, window: "1 second", burst: 5 }) {}

/** The second fault: the jobs of one tenant have a priority that the others never leave anything for. */
class Reports extends Scheduler.Service<Reports>()("shop/Reports", { concurrency: 3 }) {}

/** The third fault: after a while this backend answers nobody, and no call has a timeout. */
class Stock extends Scheduler.Service<Stock>()("shop/Stock", { concurrency: 5, maxQueued: 200 }) {}

class GetProduct extends Request.Class<{ readonly id: number }, string> {}

class Products extends Batcher.Resolver<Products>()(
  "shop/Products",
  Batcher.ordered(GetProduct, {
    execute: (requests) => Effect.delay(Effect.succeed(requests.map(({ id }) => `product ${id}`)), "12 millis")
  })
) {}

const takes = (from: number, to: number) =>
  Effect.flatMap(Random.nextIntBetween(from, to), (millis) => Effect.sleep(millis))

/** Starts so many a second, each for itself. */
const often = <A, E, R>(perSecond: number, call: Effect.Effect<A, E, R>) =>
  Effect.forkChild(call).pipe(Effect.repeat(Schedule.spaced(1000 / perSecond)))

const product = Effect.gen(function*() {
  const products = yield* Products
  const ids = yield* Effect.all(Array.from({ length: 5 }, () => Random.nextIntBetween(1, 40)))
  yield* Effect.forEach(ids, (id) => Effect.request(new GetProduct({ id }), products), { concurrency: "unbounded" })
})

const price = Effect.gen(function*() {
  const id = yield* Random.nextIntBetween(1, 6)
  yield* Prices.reduce(id, Database.schedule(takes(20, 60)))
})

const payment = Payments.withLimit(Effect.gen(function*() {
  yield* takes(10, 30)
  // Its "429, Retry-After: 3" is hidden in a client far below.
  if ((yield* Random.next) < 0.01) yield* Payments.penalize({ for: "3 seconds" })
}))

const report = (tenant: string, priority: number) => Reports.schedule(takes(100, 200), { share: tenant, priority })

let sold = 0
const stock = Stock.schedule(Effect.suspend(() => ++sold > 120 ? Effect.never : takes(20, 60))).pipe(Effect.exit)

const Load = Layer.effectDiscard(Effect.forkScoped(Effect.all([
  often(40, product),
  often(90, price),
  often(25, payment),
  often(17, report("big", 1)),
  often(6, report("middle", 1)),
  often(0.2, report("small", 0)),
  often(8, stock)
], { concurrency: "unbounded" })))

const inspector = Inspector.layer()

const Services = Layer.mergeAll(Prices.layer, Payments.layer, Reports.layer, Stock.layer, Products.layer).pipe(
  Layer.provide(Batcher.layer({ scheduler: Database, window: 5 })),
  Layer.provideMerge(Database.layer),
  Layer.provide([Metrics.layer, inspector])
)

HttpRouter.serve(Dashboard.layer({ showKeys: true }), { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provide([inspector, Load.pipe(Layer.provide(Services))]),
  Layer.merge(
    Layer.effectDiscard(HttpServer.addressFormattedWith((url) => Console.log(`The dashboard: ${url}/funnel`)))
  ),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(process.argv[2] ?? 8080) })),
  Layer.launch,
  NodeRuntime.runMain
)
