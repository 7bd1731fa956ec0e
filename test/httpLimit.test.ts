/** The server's side: what is on the wire when a limiter or a scheduler refuses a request, and when it does not. */
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Latch, Layer, Scope, Stream } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { createServer, get } from "node:http"
import { fork, settle } from "./support/fibers.ts"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse
type App<R = never> = Effect.Effect<Response, never, R | Request>

const hello: App = Effect.sync(() => HttpServerResponse.text("hello"))

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}
type Ask = (path?: string, headers?: Record<string, string>) => Effect.Effect<Answer>

/** Sends a request on a connection of its own, which an interruption closes. */
const send = (url: string, headers: Record<string, string>): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const sent = get(url, { agent: false, headers }, (incoming) => {
      let text = ""
      incoming.setEncoding("utf8").on("data", (part) => text += part).on("end", () =>
        resume(Effect.succeed({ status: incoming.statusCode!, headers: new Headers(incoming.headers as {}), text })))
    })
    sent.on("error", (error) =>
      resume(Effect.die(error)))
    return Effect.sync(() => sent.destroy())
  })

const withServer = <R, A, E, RA>(
  served: Layer.Layer<never, never, R>,
  use: (ask: Ask) => Effect.Effect<A, E, RA>
) =>
  HttpServer.addressFormattedWith((url) => use((path = "/", headers = {}) => send(url + path, headers))).pipe(
    Effect.provide(Layer.provideMerge(served, NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })))
  )

const names = [
  "retry-after",
  "ratelimit",
  "ratelimit-policy",
  "ratelimit-limit",
  "ratelimit-remaining",
  "ratelimit-reset"
] as const

/** The status and the fields of a response. */
const told = ({ headers, status }: Answer) => [
  status,
  ...names.map((name) => headers.get(name)).filter((value) => value !== null)
]

class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 60, window: "1 minute", burst: 3 }) {}

describe("limit by a RateLimiter", () => {
  const fields = "with the fields of both drafts on every response, and 429 with Retry-After once the tokens are spent"
  const places = {
    "around an app": (use: (ask: Ask) => Effect.Effect<void>) =>
      withServer(HttpServer.serve(hello.pipe(Funnel.limit(Api))), use),
    "around a server": (use: (ask: Ask) => Effect.Effect<void>) =>
      withServer(HttpServer.serve(hello, Funnel.limit(Api)), use)
  }
  for (const [place, serve] of Object.entries(places)) {
    it.effect(`${place}: answers ${fields}`, () =>
      serve((ask) =>
        Effect.gen(function*() {
          for (const remaining of [2, 1, 0]) {
            const reset = 3 - remaining
            const response = yield* ask()
            expect(told(response)).toEqual([
              200,
              `"60";r=${remaining};t=${reset}`,
              `"60";q=60`,
              "60",
              `${remaining}`,
              `${reset}`
            ])
            expect(response.text).toBe("hello")
          }
          const refused = [429, "1", `"60";r=0;t=1`, `"60";q=60`, "60", "0", "1"]
          const response = yield* ask()
          expect(told(response)).toEqual(refused)
          expect(response.text).toBe("")
          yield* TestClock.adjust("999 millis")
          expect(told(yield* ask())).toEqual(refused)
          yield* TestClock.adjust("1 millis")
          expect((yield* ask()).status).toBe(200)
        })
      ).pipe(Effect.provide(Api.layer)))
  }

  it.effect("rounds Retry-After up: whoever comes back after it is admitted", () => {
    class Slow extends RateLimiter.Service<Slow>()("test/Slow", { limit: 1, window: "2500 millis" }) {}
    return withServer(HttpServer.serve(hello.pipe(Funnel.limit(Slow))), (ask) =>
      Effect.gen(function*() {
        expect((yield* ask()).status).toBe(200)
        expect((yield* ask()).headers.get("retry-after")).toBe("3")
        yield* TestClock.adjust("2 seconds")
        expect((yield* ask()).headers.get("retry-after")).toBe("1")
        yield* TestClock.adjust("1 second")
        expect((yield* ask()).status).toBe(200)
      })).pipe(Effect.provide(Slow.layer))
  })

  it.effect("limits each key by itself, and a request costs its tokens", () => {
    const limit = Funnel.limit(Api, {
      key: (request) => request.headers["x-user"] ?? "nobody",
      tokens: (request) => Number(request.url.slice(1))
    })
    return withServer(HttpServer.serve(hello.pipe(limit)), (ask) =>
      Effect.gen(function*() {
        const as = (user: string, tokens: number) =>
          Effect.map(ask(`/${tokens}`, { "x-user": user }), ({ headers, status }) => [
            status,
            headers.get("ratelimit-remaining"),
            headers.get("retry-after")
          ])
        expect(yield* as("ada", 2)).toEqual([200, "1", null])
        expect(yield* as("ada", 3)).toEqual([429, "1", "2"])
        expect(yield* as("bob", 3)).toEqual([200, "0", null])
        // Waiting does not help.
        expect(yield* as("eve", 4)).toEqual([413, null, null])
        expect((yield* as("eve", 0))[0]).toBe(500)
      })).pipe(Effect.provide(Api.layer))
  })

  it.effect("of two quotas both are in the fields of today, and the tighter one in those of draft 06, whoever refuses", () => {
    class All extends RateLimiter.Service<All>()("test/All", { limit: 100, window: "100 seconds", burst: 100 }) {}
    const app = hello.pipe(Funnel.limit(Api, { policy: "user", key: (request) => request.url }), Funnel.limit(All))
    return withServer(HttpServer.serve(app), (ask) =>
      Effect.gen(function*() {
        const both = (yield* ask("/a")).headers
        expect(both.get("ratelimit")).toBe(`"100";r=99;t=1, "user";r=2;t=1`)
        expect(both.get("ratelimit-policy")).toBe(`"100";q=100, "user";q=60`)
        expect(["limit", "remaining", "reset"].map((name) => both.get(`ratelimit-${name}`))).toEqual(["60", "2", "1"])
        yield* ask("/a")
        yield* ask("/a")
        const refused = yield* ask("/a")
        expect(refused.status).toBe(429)
        expect(refused.headers.get("ratelimit-remaining")).toBe("0")
        expect(refused.headers.get("ratelimit")).toContain(`"user";r=0;t=1`)
        expect(refused.headers.get("ratelimit")).toContain(`"100";r=96;t=4`)
      })).pipe(Effect.provide([Api.layer, All.layer]))
  })

  it.effect("around a server, too, a refusal has the fields of the limits around it: by a limiter and by a scheduler", () => {
    class All extends RateLimiter.Service<All>()("test/All", { limit: 100, window: "100 seconds", burst: 100 }) {}
    class Server extends Scheduler.Service<Server>()("test/Server", { concurrency: 1 }) {}
    const around: (app: App) => App<Api | All | Server> = (app) =>
      app.pipe(
        Funnel.limit(Server, { weight: (request) => request.url === "/heavy" ? 2 : 1 }),
        Funnel.limit(Api, { policy: "user", key: (request) => request.url }),
        Funnel.limit(All)
      )
    return withServer(HttpServer.serve(hello, around), (ask) =>
      Effect.gen(function*() {
        expect(told(yield* ask("/heavy")).slice(0, 2)).toEqual([413, `"user";r=2;t=1, "100";r=99;t=1`])
        for (let i = 0; i < 3; i++) expect((yield* ask("/a")).status).toBe(200)
        const refused = yield* ask("/a")
        expect(told(refused)).toEqual([
          429,
          "1",
          `"user";r=0;t=1, "100";r=95;t=5`,
          `"user";q=60, "100";q=100`,
          "60",
          "0",
          "1"
        ])
      })).pipe(Effect.provide([Api.layer, All.layer, Server.layer]))
  })

  it.effect("tells of no more than the limit, where the burst is larger", () =>
    withServer(
      HttpServer.serve(hello.pipe(
        Funnel.limit(RateLimiter.RateLimiter, { policy: "large burst" })
      )),
      (ask) =>
        Effect.gen(function*() {
          const { headers } = yield* ask()
          expect(headers.get("ratelimit")).toBe(`"large burst";r=10;t=1`)
          expect(headers.get("ratelimit-remaining")).toBe("10")
        })
    ).pipe(Effect.provide(RateLimiter.layer({ limit: 10, window: "1 second", burst: 100 }))))

  it.effect("a response that the app fails with has the fields, too", () =>
    withServer(HttpServer.serve(Effect.die("broken").pipe(Funnel.limit(Api))), (ask) =>
      Effect.gen(function*() {
        const response = yield* ask()
        expect([response.status, response.headers.get("ratelimit-remaining")]).toEqual([500, "2"])
      })).pipe(Effect.provide(Api.layer)))

  it.effect("tells nothing of a limiter without limits, and 503 when the store does not answer", () => {
    const store = new RateLimiter.RateLimiterError({
      limiter: "test/Api",
      reason: new RateLimiter.StoreError({ operation: "take", cause: new Error("gone") })
    })
    return Effect.gen(function*() {
      yield* withServer(HttpServer.serve(hello.pipe(Funnel.limit(Api))), (ask) =>
        Effect.gen(function*() {
          expect(told(yield* ask())).toEqual([200])
        })).pipe(Effect.provide(Api.layerNoop))
      const api = yield* Effect.provide(Api, Api.layer)
      const broken = { ...api, consume: () => Effect.fail(store) }
      yield* withServer(
        HttpServer.serve(hello.pipe(Funnel.limit(broken, { retryAfter: "5 seconds" }))),
        (ask) =>
          Effect.gen(function*() {
            expect(told(yield* ask())).toEqual([503, "5"])
          })
      )
    })
  })

  it("refuses invalid options when the middleware is made", () => {
    for (const tokens of [0, -1, 1.5, Number.NaN]) expect(() => Funnel.limit(Api, { tokens })).toThrow(RangeError)
    expect(() => Funnel.limit(Api, { tokens: 0 })).toThrow(
      new RangeError("http.limit: tokens must be an integer >= 1, got 0")
    )
    for (const retryAfter of [-1, Infinity, Number.NaN]) {
      expect(() => Funnel.limit(Api, { retryAfter })).toThrow(
        new RangeError(`http.limit: retryAfter must be a finite duration >= 0, got ${retryAfter}`)
      )
    }
    for (const policy of ["a\"b", "a\\b", "a\nb", "ä"]) {
      expect(() => Funnel.limit(Api, { policy })).toThrow(
        /^http.limit: policy must be printable ASCII without " and \\/
      )
    }
    expect(() => Funnel.limit(Scheduler.Scheduler, { weight: 0 })).toThrow(
      new RangeError("http.limit: weight must be an integer >= 1, got 0")
    )
  })
})

describe("limit by a Scheduler", () => {
  /** An app that holds its requests until the gate opens. */
  const makeApp = () => {
    const gate = Latch.makeUnsafe(false)
    const gone = Deferred.makeUnsafe<void>()
    const state = { inside: 0, most: 0, served: 0 }
    const app: App = Effect.suspend(() => {
      state.most = Math.max(state.most, ++state.inside)
      return Effect.onExit(gate.await, (exit) =>
        Effect.sync(() => {
          state.inside--
          if (Exit.isSuccess(exit)) state.served++
          else Deferred.doneUnsafe(gone, Exit.void)
        }))
    }).pipe(Effect.as(HttpServerResponse.text("done")))
    return { app, gate, gone: Deferred.await(gone), state }
  }
  /** Waits in real time until something is so: requests come by a socket. */
  const until = (isSo: Effect.Effect<boolean>) =>
    Effect.gen(function*() {
      while (!(yield* isSo)) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    })
  const queued = (scheduler: Scheduler.Scheduler, n: number) =>
    until(Effect.map(scheduler.stats, (stats) => stats.running > 0 && stats.queued === n))

  it.effect("runs the requests as jobs, and answers 503 with Retry-After once the queue is full", () => {
    const { app, gate, state } = makeApp()
    return Effect.gen(function*() {
      const scheduler = yield* Scheduler.Scheduler
      yield* withServer(HttpServer.serve(app.pipe(Funnel.limit(scheduler))), (ask) =>
        Effect.gen(function*() {
          const all = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(ask()))
          yield* queued(scheduler, 2)
          const refused = yield* ask()
          expect(told(refused)).toEqual([503, "1"])
          expect(refused.text).toBe("")
          yield* gate.open
          expect((yield* Effect.forEach(all, Fiber.join)).map((_) => _.status)).toEqual([200, 200, 200])
          expect(state).toMatchObject({ most: 1, served: 3 })
        }))
    }).pipe(Effect.provide(Scheduler.layer({ concurrency: 1, maxQueued: 2 })))
  })

  it.effect("tells a request that the rate would start too late when it could start, and one that has waited too long to come back", () => {
    const { app, gate } = makeApp()
    return Effect.gen(function*() {
      const scheduler = yield* Scheduler.Scheduler
      const limit = Funnel.limit(scheduler, {
        tokens: (request) => request.url === "/free" ? 0 : 1,
        retryAfter: "7 seconds"
      })
      yield* withServer(HttpServer.serve(app.pipe(limit)), (ask) =>
        Effect.gen(function*() {
          const first = yield* Effect.forkChild(ask())
          yield* queued(scheduler, 0)
          expect(told(yield* ask())).toEqual([503, "10"])
          yield* TestClock.adjust("6500 millis")
          expect(told(yield* ask())).toEqual([503, "4"])
          const late = yield* Effect.forkChild(ask("/free"))
          yield* queued(scheduler, 1)
          yield* TestClock.adjust("2 seconds")
          expect(told(yield* Fiber.join(late))).toEqual([503, "7"])
          yield* gate.open
          expect((yield* Fiber.join(first)).status).toBe(200)
        }))
    }).pipe(
      Effect.provide(
        Scheduler.layer({ concurrency: 1, maxWait: "2 seconds", rate: { limit: 1, window: "10 seconds" } })
      )
    )
  })

  it.effect("answers 503 while the scheduler drains, 503 once it is closed, and 413 where the request is too heavy", () => {
    const { app, gate, state } = makeApp()
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 2 }), scope)
      const limit = Funnel.limit(scheduler, { weight: (request) => request.url === "/heavy" ? 3 : 2 })
      yield* withServer(HttpServer.serve(app.pipe(limit)), (ask) =>
        Effect.gen(function*() {
          expect(told(yield* ask("/heavy"))).toEqual([413])
          const all = yield* Effect.forEach([1, 2], () => Effect.forkChild(ask()))
          yield* queued(scheduler, 1)
          const drained = yield* fork(scheduler.drain())
          expect(told(yield* ask())).toEqual([503, "1"])
          yield* gate.open
          yield* Fiber.join(drained)
          expect((yield* Effect.forEach(all, Fiber.join)).map((_) => _.status)).toEqual([200, 200])
          yield* Scope.close(scope, Exit.void)
          expect(told(yield* ask())).toEqual([503, "1"])
          expect(state.served).toBe(2)
        }))
    })
  })

  it.effect("where the scheduler closes, a request that waits is answered with 503, and one that cannot be interrupted as it ends", () => {
    const { app, gate } = makeApp()
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1 }), scope)
      yield* withServer(HttpServer.serve(app.pipe(Funnel.limit(scheduler))), (ask) =>
        Effect.gen(function*() {
          const running = yield* Effect.forkChild(ask())
          yield* queued(scheduler, 0)
          const waiting = yield* Effect.forkChild(ask())
          yield* queued(scheduler, 1)
          const closed = yield* fork(Scope.close(scope, Exit.void))
          expect(told(yield* Fiber.join(waiting))).toEqual([503, "1"])
          yield* gate.open
          yield* Fiber.join(closed)
          expect(told(yield* Fiber.join(running))).toEqual([200])
        }))
    })
  })

  /** A router makes its routes interruptible, a server does not make its app so. */
  const routed = (app: App) => Effect.flatten(HttpRouter.toHttpEffect(HttpRouter.add("*", "/*", app)))

  for (const around of ["an app", "a route", "a server"]) {
    it.effect(`a request whose client leaves the queue never runs: around ${around}`, () => {
      const { app, gate, state } = makeApp()
      return Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1 })
        const exits: Array<string> = []
        const limit = (app: App): App =>
          Effect.onExit(
            Funnel.limit(scheduler)(app),
            (exit) => Effect.sync(() => exits.push(Exit.hasInterrupts(exit) ? "interrupted" : exit._tag))
          )
        const served = around === "a server"
          ? HttpServer.serve(app, limit)
          : HttpServer.serve(around === "an app" ? limit(app) : routed(limit(app)))
        yield* withServer(served, (ask) =>
          Effect.gen(function*() {
            const running = yield* Effect.forkChild(ask())
            yield* queued(scheduler, 0)
            const waiting = yield* Effect.forkChild(ask())
            yield* queued(scheduler, 1)
            yield* Fiber.interrupt(waiting)
            yield* queued(scheduler, 0)
            yield* gate.open
            expect((yield* Fiber.join(running)).status).toBe(200)
            yield* scheduler.awaitIdle
            expect(state).toMatchObject({ most: 1, served: 1 })
            expect(exits).toEqual(["interrupted", "Success"])
          }))
      })
    })
  }

  it.effect("a route whose client leaves is interrupted and returns its permit", () => {
    const { app, gate, gone, state } = makeApp()
    return Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* withServer(HttpServer.serve(routed(app.pipe(Funnel.limit(scheduler)))), (ask) =>
        Effect.gen(function*() {
          const running = yield* Effect.forkChild(ask())
          yield* queued(scheduler, 0)
          yield* Fiber.interrupt(running)
          yield* gone
          yield* scheduler.awaitIdle
          yield* gate.open
          expect((yield* ask()).status).toBe(200)
          expect(state).toMatchObject({ most: 1, served: 1 })
        }))
    })
  })

  it.effect("around an app a job ends with its response, around a server with the last byte of its body", () => {
    const rest = Latch.makeUnsafe(false)
    const begun = Latch.makeUnsafe(false)
    const encode = (text: string) => new TextEncoder().encode(text)
    const app: App = Effect.sync(() =>
      HttpServerResponse.stream(
        Stream.concat(
          Stream.fromEffect(Effect.as(begun.open, encode("be"))),
          Stream.fromEffect(Effect.as(rest.await, encode("gun")))
        )
      )
    )
    return Effect.gen(function*() {
      const scheduler = yield* Scheduler.Scheduler
      for (const around of ["app", "server"]) {
        yield* rest.close
        yield* begun.close
        const serve = around === "app"
          ? HttpServer.serve(app.pipe(Funnel.limit(scheduler)))
          : HttpServer.serve(app, Funnel.limit(scheduler))
        yield* withServer(serve, (ask) =>
          Effect.gen(function*() {
            const call = yield* Effect.forkChild(Effect.map(ask(), (_) => _.text))
            yield* begun.await
            yield* settle
            expect((yield* scheduler.stats).running).toBe(around === "app" ? 0 : 1)
            yield* rest.open
            expect(yield* Fiber.join(call)).toBe("begun")
          }))
      }
    }).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
  })

  it.effect("leaves to the app what it fails with itself, also if it is the refusal of another scheduler", () => {
    const request = HttpServerRequest.fromWeb(new globalThis.Request("http://localhost/"))
    return Effect.gen(function*() {
      const backend = yield* Scheduler.make({ concurrency: 1, name: "backend" })
      const app = backend.schedule(Effect.succeed(HttpServerResponse.text("never")), { weight: 2 })
      const error = yield* Effect.flip(app.pipe(Funnel.limit(Scheduler.Scheduler)))
      expect(error).toMatchObject({ scheduler: "backend", reason: { _tag: "InsufficientCapacity" } })
      const own = Scheduler.schedule(Effect.succeed(HttpServerResponse.text("never")), { weight: 2, tokens: 0 })
      const passed = yield* Effect.flip(own.pipe(Funnel.limit(Scheduler.Scheduler)))
      expect(passed.reason._tag).toBe("InsufficientCapacity")
      expect((yield* Scheduler.stats).running).toBe(0)
    }).pipe(
      Effect.provideService(HttpServerRequest.HttpServerRequest, request),
      Effect.provide(Scheduler.layer({ concurrency: 1 }))
    )
  })

  it.effect("a request that is lost with its permit gets 503, and one that has ended before gets its answer", () => {
    const request = HttpServerRequest.fromWeb(new globalThis.Request("http://localhost/"))
    const lost = new Scheduler.SchedulerError({
      scheduler: "test",
      reason: new Scheduler.StoreError({ operation: "extend", cause: new Error("gone") })
    })
    return Effect.gen(function*() {
      const scheduler = yield* Scheduler.Scheduler
      const losing = {
        ...scheduler,
        schedule: ((job: App) => Effect.andThen(Effect.exit(job), Effect.fail(lost))) as never
      }
      const ends = yield* hello.pipe(Funnel.limit(losing))
      expect(ends.status).toBe(200)
      const interrupted: App = Effect.interrupt
      const failing = Effect.failCause(Cause.combine(Cause.interrupt(), Cause.fail("own")))
      for (const app of [interrupted, failing]) {
        const answer = yield* app.pipe(Funnel.limit(losing))
        expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"])
      }
    }).pipe(
      Effect.provideService(HttpServerRequest.HttpServerRequest, request),
      Effect.provide(Scheduler.layer({ concurrency: 1 }))
    )
  })

  it.effect("with a Keyed each request is a job of the scheduler of its key", () => {
    class Tenants extends Scheduler.Keyed<Tenants>()("test/Tenants", {
      lookup: (_: string) => ({ concurrency: 1, maxWait: 0 })
    }) {}
    const { app, gate, state } = makeApp()
    return Effect.gen(function*() {
      const tenants = yield* Tenants
      const limit = Funnel.limit(tenants, { key: (request) => request.url })
      yield* withServer(HttpServer.serve(app.pipe(limit)), (ask) =>
        Effect.gen(function*() {
          const all = yield* Effect.forEach(["/a", "/b"], (path) => Effect.forkChild(ask(path)))
          yield* until(Effect.sync(() => state.inside === 2))
          expect(told(yield* ask("/a"))).toEqual([503, "1"])
          yield* gate.open
          expect((yield* Effect.forEach(all, Fiber.join)).map((_) => _.status)).toEqual([200, 200])
          expect(yield* Tenants.size).toBe(0)
        }))
    }).pipe(Effect.provide(Tenants.layer))
  })

  it.effect("a server whose scheduler drains closes the connections of its clients", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* scheduler.drain()
      const limited = HttpRouter.middleware(Effect.succeed(Funnel.limit(scheduler))).layer
      const routes = Layer.provide(HttpRouter.add("GET", "/", hello), limited)
      const { dispose, handler } = HttpRouter.toWebHandler(routes, { disableLogger: true })
      const { headers, status } = yield* Effect.promise(() => handler(new globalThis.Request("http://localhost/")))
      expect([status, headers.get("connection")]).toEqual([503, "close"])
      yield* Effect.promise(dispose)
    }))

  it.effect("as a middleware of a router it limits the routes that it is provided to", () => {
    const limited = HttpRouter.middleware(Effect.map(Api, (api) => Funnel.limit(api))).layer
    const routes = Layer.mergeAll(
      Layer.provide(HttpRouter.add("GET", "/limited", hello), limited),
      HttpRouter.add("GET", "/free", hello)
    )
    return Effect.gen(function*() {
      const { dispose, handler } = HttpRouter.toWebHandler(Layer.provide(routes, Api.layer), { disableLogger: true })
      const ask = (path: string) => Effect.promise(() => handler(new globalThis.Request(`http://localhost${path}`)))
      const statuses = yield* Effect.forEach(["/limited", "/limited", "/limited", "/limited", "/free"], ask)
      expect(statuses.map((_) => _.status)).toEqual([200, 200, 200, 429, 200])
      expect(statuses[4]!.headers.has("ratelimit")).toBe(false)
      yield* Effect.promise(dispose)
    })
  })
})
