/**
 * The routes of the dashboard: their headers, and the stream of frames.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Metric, References, Scope, Stream } from "effect"
import { Scheduler } from "effect-funnel"
import * as Dashboard from "effect-funnel/dashboard"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import { HttpRouter, HttpServer, HttpServerRequest } from "effect/http"
import type { HttpServerResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { createHash } from "node:crypto"
import { createServer } from "node:http"
import { connect } from "node:net"
import { gzipSync } from "node:zlib"
import type { Frame } from "../src/internal/dashboard/frame.ts"
import { events } from "../src/internal/dashboard/serve.ts"
import { fork } from "./support/fibers.ts"
import { live } from "./support/live.ts"
import { withRegistry } from "./support/metrics.ts"

const services = Scheduler.layer({ concurrency: 2 }).pipe(
  Layer.provide(Metrics.layer),
  Layer.provideMerge(Inspector.layer())
)

/** Asks the routes themselves, without a server. A response lasts until its scope closes. */
const routes = Effect.fn(function*(options: Dashboard.Options = {}) {
  const app = yield* HttpRouter.toHttpEffect(Dashboard.layer(options))
  return (path: string) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const request = HttpServerRequest.fromWeb(new Request(`http://localhost${path}`))
      const response = yield* app.pipe(
        Effect.provideService(HttpServerRequest.HttpServerRequest, request),
        Scope.provide(scope)
      )
      return { response, close: Scope.close(scope, Exit.void) }
    })
})

const framesOf = ({ body }: HttpServerResponse.HttpServerResponse): Stream.Stream<Frame> => {
  assert.strictEqual(body._tag, "Stream")
  return body._tag !== "Stream" ? Stream.empty : body.stream.pipe(
    Stream.orDie,
    Stream.map((bytes) => {
      const text = new TextDecoder().decode(bytes)
      assert.match(text, /^data: [^\n]+\n\n$/)
      return JSON.parse(text.slice("data: ".length)) as Frame
    })
  )
}

/** How often the metrics are read. */
const reads = Effect.map(Effect.context<never>(), (context) => {
  let count = 0
  Metric.registerUnsafe(Metric.counter("effect_funnel.test.reads"), context, {
    get: () => ({ count: ++count, incremental: true }),
    update: () => {},
    modify: () => {}
  })
  return () => count
})

const test = (
  title: string,
  program: () => Generator<Effect.Effect<unknown, unknown, Layer.Success<typeof services> | Scope.Scope>, void, never>
) => it.effect(title, () => Effect.gen(program).pipe(Effect.provide(services), Effect.scoped, withRegistry))

describe("the page", () => {
  test("loads nothing from elsewhere, allows its own script and style only, and is not kept", function*() {
    const get = yield* routes()
    const { response: { body, headers, status } } = yield* get("/funnel")
    assert.strictEqual(status, 200)
    const html = new TextDecoder().decode((body as { body: Uint8Array }).body)
    const policy = headers["content-security-policy"]!
    const within = (tag: string) => new RegExp(`<${tag}>([^]*)</${tag}>`).exec(html)![1]!
    const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`
    assert.deepStrictEqual(policy.split("; "), [
      "default-src 'none'",
      `script-src ${hash(within("script"))}`,
      `style-src ${hash(within("style"))}`,
      "connect-src 'self'",
      "img-src data:",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'"
    ])
    assert.strictEqual(headers["cache-control"], "no-store")
    assert.strictEqual(headers["x-content-type-options"], "nosniff")
    assert.notMatch(html, /(?:src|href)="(?!data:)|\sstyle=|\son\w+="/)
    assert.include(html, "Copyright (c) 2022 Leon Sorokin")
    assert.isBelow(gzipSync(html, { level: 9 }).length, 80_000)
  })

  test("is where `path` says, and its frames below it", function*() {
    const get = yield* routes({ path: "/ops/queues/" })
    const { response } = yield* get("/ops/queues/")
    assert.strictEqual(response.status, 200)
    const { close, response: frames } = yield* get("/ops/queues/events")
    assert.strictEqual(frames.headers["content-type"], "text/event-stream")
    yield* close
  })

  test("refuses options that cannot be", function*() {
    const refused = (options: Dashboard.Options, message: string) =>
      assert.throws(() => Dashboard.layer(options), RangeError, `dashboard.layer: ${message}`)
    const path = "path must be a path of letters, digits and -._~/ that begins with /, got "
    // @ts-expect-error: a path begins with a slash
    refused({ path: "funnel" }, `${path}"funnel"`)
    refused({ path: "/:id" }, `${path}"/:id"`)
    refused({ path: "/*" }, `${path}"/*"`)
    refused({ every: 99 }, "every must be a duration from 100 milliseconds to 1 minute, got 99")
    refused({ every: "2 minutes" }, `every must be a duration from 100 milliseconds to 1 minute, got "2 minutes"`)
    refused({ every: Infinity }, "every must be a finite duration > 0, got Infinity")
    refused({ every: NaN }, "every must be a finite duration > 0, got NaN")
    for (const n of [0, -1, 1.5, NaN, Infinity]) {
      refused({ most: n }, `most must be an integer >= 1, got ${n}`)
      refused({ maxViewers: n }, `maxViewers must be an integer >= 1, got ${n}`)
    }
  })
})

describe("the stream of frames", () => {
  test("has the services and their counts, and no keys", function*() {
    const get = yield* routes()
    yield* fork(Scheduler.schedule(Effect.never, { share: "secret" }))
    const { close, response } = yield* get("/funnel/events")
    const [frame] = yield* Stream.runCollect(Stream.take(framesOf(response), 1))
    yield* close
    assert.strictEqual(frame!.every, 1000)
    assert.strictEqual(frame!.snapshot.schedulers.first[0]!.running.total, 1)
    assert.deepInclude(frame!.points.find((_) => _.id === "scheduler.wait_time" && _.label === "started"), { count: 1 })
    assert.notInclude(JSON.stringify(frame), "secret")
  })

  test("has a frame at once and then one a period; viewers share them, and without any nothing is read", function*() {
    const get = yield* routes({ every: "2 seconds" })
    const count = yield* reads
    yield* TestClock.adjust("1 hour")
    assert.strictEqual(count(), 0)
    const seen = [0, 0]
    const viewers = yield* Effect.forEach([0, 1], (i) =>
      Effect.gen(function*() {
        const { close, response } = yield* get("/funnel/events")
        const fiber = yield* fork(Stream.runForEach(framesOf(response), () => Effect.sync(() => void seen[i]!++)))
        return { close, fiber }
      }))
    yield* TestClock.adjust(0)
    assert.deepStrictEqual([seen, count()], [[1, 1], 1])
    for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
    assert.deepStrictEqual([seen, count()], [[6, 6], 6])
    for (const { close, fiber } of viewers) {
      fiber.interruptUnsafe()
      yield* close
    }
    yield* TestClock.adjust("1 hour")
    assert.strictEqual(count(), 6)
  })

  test("a viewer that is slow misses frames, and gets the latest one when it comes", function*() {
    const get = yield* routes()
    const count = yield* reads
    const { close, response } = yield* get("/funnel/events")
    const times: Array<number> = []
    yield* fork(
      Stream.runForEach(framesOf(response), (frame) =>
        Effect.andThen(
          Effect.sync(() => times.push(frame.snapshot.at)),
          Effect.sleep("10 seconds")
        ))
    )
    for (let i = 0; i < 25; i++) yield* TestClock.adjust("1 second")
    assert.deepStrictEqual([times, count()], [[0, 11_000, 22_000], 3])
    yield* close
  })

  test("comes less often where a frame takes long, so that frames take a twentieth of the time", function*() {
    const clock = yield* Clock.Clock
    let [spent, told] = [0n, 0]
    const busy: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + spent
    })
    const times: Array<number> = []
    const encode = (now: number, every: number) => {
      times.push(now)
      spent += 200_000_000n
      told = every
      return "{}"
    }
    const app = yield* events({ every: 1000, maxViewers: 1 }, encode).pipe(Effect.provideService(Clock.Clock, busy))
    const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
    const { body } = yield* Effect.provideService(app, HttpServerRequest.HttpServerRequest, request)
    let frames = 0
    yield* fork(
      Stream.runForEach(
        (body as { stream: Stream.Stream<Uint8Array, unknown> }).stream,
        () => Effect.sync(() => void frames++)
      )
    )
    for (let i = 0; i < 13; i++) yield* TestClock.adjust("1 second")
    assert.deepStrictEqual([times, frames, told], [[0, 4000, 8000, 12_000], 4, 4000])
  })

  test("has room for `maxViewers`; the next one is refused until one leaves", function*() {
    const get = yield* routes({ maxViewers: 2 })
    const first = yield* get("/funnel/events")
    yield* get("/funnel/events")
    const third = yield* get("/funnel/events")
    assert.deepStrictEqual([third.response.status, third.response.headers["retry-after"]], [503, "5"])
    yield* first.close
    assert.strictEqual((yield* get("/funnel/events")).response.status, 200)
  })

  test("a viewer that takes nothing for half a minute loses its place", function*() {
    const get = yield* routes({ maxViewers: 1 })
    const stalled = yield* fork(Effect.andThen(get("/funnel/events"), Effect.never))
    yield* TestClock.adjust("32 seconds")
    assert.isUndefined(stalled.pollUnsafe())
    yield* TestClock.adjust("2 seconds")
    assert.isTrue(Exit.hasInterrupts(stalled.pollUnsafe()!))
  })

  test("its place is free then, also where the request has ended and only the stream is left", function*() {
    const get = yield* routes({ maxViewers: 1 })
    const { response } = yield* Effect.flatMap(fork(get("/funnel/events")), Fiber.join)
    yield* TestClock.adjust("34 seconds")
    assert.strictEqual((yield* get("/funnel/events")).response.status, 200)
    assert.strictEqual(yield* Stream.runCount(framesOf(response)), 0)
  })

  test("a viewer keeps its place for as long where the time of day is set", function*() {
    const clock = yield* Clock.Clock
    for (const hours of [1, -1]) {
      let set = 0
      const wall: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + set
      })
      const app = yield* events({ every: 1000, maxViewers: 1 }, () => "{}").pipe(
        Effect.provideService(Clock.Clock, wall)
      )
      const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
      const get = Effect.provideService(app, HttpServerRequest.HttpServerRequest, request)
      yield* Effect.flatMap(fork(get), Fiber.join)
      set = hours * 3_600_000
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* get).status, 503)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* Effect.flatMap(fork(get), Fiber.join)).status, 200)
    }
  })

  test("frames come on where the time of day is set back", function*() {
    const clock = yield* Clock.Clock
    let set = 0
    const wall: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + set
    })
    const times: Array<number> = []
    const app = yield* events({ every: 1000, maxViewers: 1 }, (now) => {
      times.push(now)
      return "{}"
    }).pipe(Effect.provideService(Clock.Clock, wall))
    const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
    const { body } = yield* Effect.provideService(app, HttpServerRequest.HttpServerRequest, request)
    yield* fork(Stream.runDrain((body as { stream: Stream.Stream<Uint8Array, unknown> }).stream))
    yield* TestClock.adjust("1 second")
    set = -3_600_000
    yield* TestClock.adjust("1 second")
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(times, [0, 1000, -3_598_000, -3_597_000])
  })

  test("ends within a second of the close of its server or session; other sources are never seen to close", function*() {
    const app = yield* events({ every: 60_000, maxViewers: 20 }, () => "{}")
    const requestOf = (source: object): HttpServerRequest.HttpServerRequest => {
      const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
      return Object.assign(Object.create(request) as typeof request, { source })
    }
    const look = (source: object) =>
      Effect.gen(function*() {
        const get = Effect.provideService(app, HttpServerRequest.HttpServerRequest, requestOf(source))
        const { body } = yield* Effect.flatMap(fork(get), Fiber.join)
        return yield* fork(Stream.runDrain((body as { stream: Stream.Stream<Uint8Array, unknown> }).stream))
      })
    const [server, session] = [{ listening: true }, { closed: false }]
    const closing = [yield* look({ socket: { server } }), yield* look({ stream: { session } })]
    const others = yield* Effect.forEach([{}, { socket: {} }, { stream: {} }], look)
    yield* TestClock.adjust("3 seconds")
    assert.isTrue(closing.every((fiber) => fiber.pollUnsafe() === undefined))
    server.listening = false
    session.closed = true
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(closing.map((fiber) => fiber.pollUnsafe()), [Exit.void, Exit.void])
    yield* TestClock.adjust("1 minute")
    assert.isTrue(others.every((fiber) => fiber.pollUnsafe() === undefined))
    // They lose their place as others do.
    for (const source of [{ socket: {} }, { stream: {} }]) {
      const full = yield* events({ every: 1000, maxViewers: 1 }, () => "{}")
      const get = Effect.provideService(full, HttpServerRequest.HttpServerRequest, requestOf(source))
      yield* Effect.flatMap(fork(get), Fiber.join)
      yield* TestClock.adjust("34 seconds")
      assert.strictEqual((yield* Effect.flatMap(fork(get), Fiber.join)).status, 200)
    }
  })

  test("has no more than `maxViewers`, wherever their fibers yield", function*() {
    for (let operations = 3; operations < 40; operations++) {
      const get = yield* routes({ maxViewers: 1 })
      const gets = Array.from(
        { length: 4 },
        () => fork(Effect.provideService(get("/funnel/events"), References.MaxOpsBeforeYield, operations))
      )
      const statuses = yield* Effect.forEach(
        yield* Effect.all(gets),
        (fiber) => Effect.map(Fiber.join(fiber), ({ response }) => response.status)
      )
      assert.deepStrictEqual(statuses.filter((status) => status === 200), [200])
    }
  })

  test("ends when the layer of the page closes", function*() {
    const scope = yield* Scope.make()
    const get = yield* Scope.provide(routes(), scope)
    const { response } = yield* get("/funnel/events")
    const fiber = yield* fork(Stream.runCount(framesOf(response)))
    yield* TestClock.adjust("3 seconds")
    yield* Scope.close(scope, Exit.void)
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(4))
    assert.strictEqual((yield* get("/funnel/events")).response.status, 503)
  })
})

describe("a server that closes", () => {
  const up = Effect.fn(function*(scope: Scope.Scope) {
    const served = HttpRouter.serve(Dashboard.layer({ every: "100 millis" }), {
      disableLogger: true,
      disableListenLog: true
    }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
      Layer.provide(Inspector.layer())
    )
    const context = yield* Layer.buildWithScope(served, scope)
    const { address } = yield* Effect.provide(HttpServer.HttpServer, context)
    return "port" in address ? address.port : 0
  })

  for (const reads of [true, false]) {
    live(`does not wait for a viewer that ${reads ? "looks" : "takes nothing"}`, function*() {
      const scope = yield* Scope.make()
      const port = yield* up(scope)
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => connect(port, "127.0.0.1")),
        (socket) => Effect.sync(() => socket.destroy())
      )
      yield* Effect.callback<void>((resume) => {
        socket.once("data", () => resume(Effect.void))
        socket.write("GET /funnel/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
      })
      if (reads) socket.resume()
      else socket.pause()
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 3000)
    })
  }
})
