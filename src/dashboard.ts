/**
 * A page that shows the services while they work: how many calls they save, what waits, for how long and what for.
 *
 * **When to use**
 *
 * Use it to see in a browser what is slow right now, and why. For history and alerts export `effect-funnel/Metrics`.
 *
 * **Details**
 *
 * {@link layer} adds the page to the routes of your server. It shows the services that `Inspector.layer` lists, and of
 * their counts those that `Metrics.layer` keeps. `docs/dashboard.md` shows the page, and how to find a fault with it.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as Layer from "effect/Layer"
import * as Inspector from "./Inspector.js"
import { encode } from "./internal/dashboard/frame.js"
import { events, page } from "./internal/dashboard/serve.js"
import { integer, refuse } from "./internal/data/refuse.js"
import { Members } from "./internal/inspect/roll.js"
import { nanos, readable } from "./internal/limiter/quota.js"
import { Roll } from "./internal/seen/seen.js"

/**
 * Where the page is, and what it shows.
 *
 * **Details**
 *
 * - `path`: the path of the page, `"/funnel"` by default. Its frames come from `events` below it.
 * - `showKeys`: whether the page shows keys of runs, limiters, batches, shares and keyed schedulers, as text of at most 120
 *   characters; `false` by default, whatever the inspector shows. Keys may be secrets.
 * - `every`: the time between two frames, from 100 milliseconds to a minute; 1 second by default.
 * - `most`: how many entries each list has at most, an integer above 0; 20 by default.
 * - `maxViewers`: how many browsers may look at once, an integer above 0; 10 by default. Others get a 503 and try again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly path?: `/${string}` | undefined
  readonly showKeys?: boolean | undefined
  readonly every?: Duration.Input | undefined
  readonly most?: number | undefined
  readonly maxViewers?: number | undefined
}

/**
 * Adds a read-only page to the routes of a server.
 *
 * **Details**
 *
 * The server pushes a frame to each browser that looks, one a second unless `every` says otherwise. A browser that is slow misses frames. While nobody looks,
 * nothing is done. A frame costs what `Inspector.snapshot` costs; with very many jobs there are fewer frames, which take at most
 * a twentieth of the time.
 *
 * The page loads nothing from elsewhere, has a strict `Content-Security-Policy`, and never shows values. A server that closes
 * ends the connections of the page within two seconds, so that they do not hold it up. The page connects again when there is a
 * server.
 *
 * **Gotchas**
 *
 * - It is as open as your routes are: put it behind the middleware that guards the others of your operators.
 * - Provide one and the same `Inspector.layer()` to the services and to this layer. `Inspector.layer()` makes a new layer each
 *   time: keep it in a constant.
 * - The counts are those of the metric registry where this layer is built.
 *
 * **Example** (Adding the page)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Dashboard from "effect-funnel/dashboard"
 * import * as Inspector from "effect-funnel/Inspector"
 * import * as Metrics from "effect-funnel/Metrics"
 * import { HttpRouter } from "effect/http"
 *
 * class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 10 }) {}
 *
 * const inspector = Inspector.layer()
 * const services = Layer.provide(GitHub.layer, [Metrics.layer, inspector])
 * const routes = Layer.merge(services, Layer.provide(Dashboard.layer({ path: "/funnel" }), inspector))
 *
 * const { dispose, handler } = HttpRouter.toWebHandler(routes, { disableLogger: true })
 * const response = await handler(new Request("http://localhost/funnel"))
 * await dispose()
 *
 * response.status // => 200
 * response.headers.get("content-type") // => "text/html; charset=utf-8"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<never, never, HttpRouter.HttpRouter | Inspector.Inspector> => {
  const { every = "1 second", maxViewers = 10, most = 20, path = "/funnel", showKeys = false } = options
  const millis = nanos("dashboard.layer", "every", every, 1) / 1e6
  if (!/^\/[\w\-.~/]*$/.test(path)) {
    refuse("dashboard.layer", "path", "a path of letters, digits and -._~/ that begins with /", path)
  }
  if (!(millis >= 100 && millis <= 60_000)) {
    refuse("dashboard.layer", "every", "a duration from 100 milliseconds to 1 minute", readable(every))
  }
  integer("dashboard.layer", "most", most, 1)
  integer("dashboard.layer", "maxViewers", maxViewers, 1)
  return HttpRouter.use((router) =>
    Effect.gen(function*() {
      // The list that belongs to the inspector: the page has its own settings.
      yield* Inspector.Inspector
      const context = yield* Effect.context<never>()
      const roll = Context.get(context, Roll)
      const members = roll instanceof Members ? roll.all : []
      const settings = { showKeys, most, since: yield* Clock.currentTimeMillis }
      const stream = yield* events(
        { every: millis, maxViewers },
        (now, every) => encode(members, context, { ...settings, every }, now)
      )
      const base = path.replace(/\/+$/, "")
      yield* router.add("GET", path, page)
      yield* router.add("GET", `${base}/events` as `/${string}`, stream)
    })
  )
}
