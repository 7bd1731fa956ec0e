import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Latch, Layer, Ref, Stream } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpClient, HttpClientRequest, HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import type { HttpServerRequest } from "effect/http"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"

/** A real server that answers with what `handler` says, and a client of it with connections of its own. */
const withServer = <A, E, R>(
  handler: (
    request: HttpServerRequest.HttpServerRequest
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse>,
  use: (client: HttpClient.HttpClient) => Effect.Effect<A, E, R>
) =>
  HttpServer.addressFormattedWith((url) =>
    HttpClient.HttpClient.use((client) => use(HttpClient.mapRequest(client, HttpClientRequest.prependUrl(url)))).pipe(
      Effect.provide(NodeHttpClient.layerUndici)
    )
  ).pipe(
    Effect.provide(
      HttpRouter.serve(HttpRouter.add("*", "/*", handler), { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
      )
    )
  )

/** Counts who is inside, and holds them there until it is opened. */
const makeGate = () => {
  const latch = Latch.makeUnsafe(false)
  const waiting: Array<{ readonly n: number; readonly reached: Deferred.Deferred<void> }> = []
  const state = { arrived: 0, inside: 0, most: 0, left: 0 }
  return {
    state,
    open: latch.open,
    /** Returns when so many have arrived in all. */
    arrived: (n: number) =>
      Effect.suspend(() => {
        if (state.arrived >= n) return Effect.void
        const reached = Deferred.makeUnsafe<void>()
        waiting.push({ n, reached })
        return Deferred.await(reached)
      }),
    pass: Effect.suspend(() => {
      state.arrived++
      state.most = Math.max(state.most, ++state.inside)
      for (const { n, reached } of waiting) {
        if (state.arrived >= n) Deferred.doneUnsafe(reached, Exit.void)
      }
      return Effect.onExit(latch.await, () =>
        Effect.sync(() => {
          state.inside--
          state.left++
        }))
    })
  }
}

const textOf = <E, R>(client: HttpClient.HttpClient.With<E, R>, url = "/") =>
  Effect.flatMap(client.get(url), (response) => response.text)

describe("schedule", () => {
  it.effect("never has more requests under way than the scheduler admits, and sends them all", () => {
    const gate = makeGate()
    return withServer(
      () => Effect.as(gate.pass, HttpServerResponse.text("ok")),
      Effect.fnUntraced(function*(plain) {
        const client = Funnel.schedule(plain, Scheduler.Scheduler)
        const all = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 12 }, (_, i) => i), (i) => client.get(`/${i}`), {
            concurrency: "unbounded"
          })
        )
        yield* gate.arrived(3)
        const stats = yield* Scheduler.stats
        expect([stats.running, stats.queued]).toEqual([3, 9])
        yield* gate.open
        const responses = yield* Fiber.join(all)
        expect(responses.map((response) => response.status)).toEqual(Array(12).fill(200))
        expect(gate.state).toMatchObject({ arrived: 12, most: 3 })
      })
    ).pipe(Effect.provide(Scheduler.layer({ concurrency: 3 })))
  })

  it.effect("gives the permit back when the response has begun, and with hold \"body\" when the body is here", () =>
    Effect.gen(function*() {
      for (const hold of ["headers", "body"] as const) {
        const body = Latch.makeUnsafe(false)
        yield* withServer(
          () =>
            Effect.succeed(HttpServerResponse.stream(
              Stream.concat(
                Stream.make(new TextEncoder().encode("be")),
                Stream.fromEffect(Effect.as(body.await, new TextEncoder().encode("gun")))
              )
            )),
          Effect.fnUntraced(function*(plain) {
            const begun = Deferred.makeUnsafe<void>()
            const given = Deferred.makeUnsafe<void>()
            const client = plain.pipe(
              HttpClient.tap(() => Deferred.done(begun, Exit.void)),
              Funnel.schedule(Scheduler.Scheduler, { hold }),
              HttpClient.tap(() => Deferred.done(given, Exit.void))
            )
            const first = yield* Effect.forkChild(textOf(client))
            yield* Deferred.await(hold === "headers" ? given : begun)
            yield* Effect.repeat(Effect.yieldNow, { times: 10 })
            expect((yield* Scheduler.stats).running).toBe(hold === "headers" ? 0 : 1)
            expect(Deferred.isDoneUnsafe(given)).toBe(hold === "headers")
            yield* body.open
            expect(yield* Fiber.join(first)).toBe("begun")
            expect((yield* Scheduler.stats).running).toBe(0)
          })
        ).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
      }
    }))

  it.effect("does not send a request that is interrupted in the queue", () => {
    const gate = makeGate()
    return withServer(
      () => Effect.as(gate.pass, HttpServerResponse.text("ok")),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.schedule(Scheduler.Scheduler))
        const first = yield* Effect.forkChild(client.get("/"))
        yield* gate.arrived(1)
        const queued = yield* Effect.forkChild(client.get("/"), { startImmediately: true })
        expect((yield* Scheduler.stats).queued).toBe(1)
        yield* Fiber.interrupt(queued)
        expect((yield* Scheduler.stats).queued).toBe(0)
        yield* gate.open
        yield* Fiber.join(first)
        expect(gate.state.arrived).toBe(1)
      })
    ).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
  })

  it.effect("gives the permit back and aborts the request when it is interrupted under way", () => {
    const gate = makeGate()
    const gone = Deferred.makeUnsafe<void>()
    return withServer(
      () =>
        gate.pass.pipe(
          Effect.as(HttpServerResponse.text("ok")),
          Effect.onInterrupt(() => Deferred.done(gone, Exit.void))
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.schedule(Scheduler.Scheduler))
        const first = yield* Effect.forkChild(client.get("/"))
        yield* gate.arrived(1)
        yield* Fiber.interrupt(first)
        yield* Deferred.await(gone)
        expect((yield* Scheduler.stats).running).toBe(0)
        yield* gate.open
        expect(yield* textOf(client)).toBe("ok")
      })
    ).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
  })

  it.effect("fails with SchedulerError where the scheduler refuses, and asks for weight by the request", () =>
    withServer(
      () => Effect.succeed(HttpServerResponse.text("ok")),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(
          Funnel.schedule(Scheduler.Scheduler, { weight: (request) => request.url.endsWith("/heavy") ? 3 : 1 })
        )
        expect((yield* client.get("/light")).status).toBe(200)
        const error = yield* Effect.flip(client.get("/heavy"))
        assert(error._tag === "SchedulerError")
        expect(error.reason).toMatchObject({ _tag: "InsufficientCapacity", what: "weight", asked: 3, most: 2 })
      })
    ).pipe(Effect.provide(Scheduler.layer({ concurrency: 2 }))))

  it.effect("queues every attempt anew when retryTransient comes behind it", () => {
    let attempts = 0
    return withServer(
      () => Effect.sync(() => HttpServerResponse.text("", { status: ++attempts < 3 ? 503 : 200 })),
      Effect.fnUntraced(function*(plain) {
        const queued = yield* Ref.make(0)
        const counted = HttpClient.transform(
          plain,
          (effect) => Effect.andThen(Ref.update(queued, (n) => n + 1), effect)
        )
        const client = counted.pipe(Funnel.schedule(Scheduler.Scheduler), HttpClient.retryTransient({ times: 5 }))
        expect((yield* client.get("/")).status).toBe(200)
        expect(yield* Ref.get(queued)).toBe(3)
        expect((yield* Scheduler.stats).running).toBe(0)
      })
    ).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
  })
})

describe("reduce", () => {
  const bytes = new TextEncoder().encode("{\"n\":1}")

  it.effect("sends equal requests under way once, and every caller reads the body in its own way, twice and as a stream", () => {
    const gate = makeGate()
    return withServer(
      () =>
        Effect.as(
          gate.pass,
          HttpServerResponse.uint8Array(bytes, {
            contentType: "application/json",
            headers: { "x-answer": "42", "set-cookie": "a=b" }
          })
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const all = yield* Effect.forkChild(
          Effect.forEach([1, 2, 3, 4, 5, 6], () => client.get("/a?b=c"), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* gate.arrived(1)
        yield* gate.open
        const responses = yield* Fiber.join(all)
        expect(gate.state.arrived).toBe(1)
        expect(new Set(responses).size).toBe(6)
        for (const response of responses) {
          expect(response.status).toBe(200)
          expect(response.headers["x-answer"]).toBe("42")
          expect(response.url).toMatch(/\/a\?b=c$/)
          expect(yield* response.json).toEqual({ n: 1 })
          expect(yield* response.text).toBe("{\"n\":1}")
          expect(yield* response.text).toBe("{\"n\":1}")
          expect(yield* Stream.runCollect(response.stream)).toEqual([bytes])
          expect(yield* Stream.runCollect(response.stream)).toEqual([bytes])
        }
        const mine = new Uint8Array(yield* responses[0]!.arrayBuffer)
        mine.fill(0)
        expect(new Uint8Array(yield* responses[1]!.arrayBuffer)).toEqual(bytes)
        expect(new Uint8Array(yield* responses[0]!.arrayBuffer)).toEqual(bytes)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("keeps nothing: a request after the response is sent anew", () => {
    let sent = 0
    return withServer(
      () => Effect.sync(() => HttpServerResponse.text(String(++sent))),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        expect(yield* textOf(client)).toBe("1")
        expect(yield* textOf(client)).toBe("2")
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  /** How many of these requests reach the server when all are under way at once. */
  const reached = (
    expected: number,
    requests: ReadonlyArray<HttpClientRequest.HttpClientRequest>,
    options?: Funnel.ReduceOptions
  ) => {
    const gate = makeGate()
    return withServer(
      () => Effect.as(gate.pass, HttpServerResponse.text("ok")),
      Effect.fnUntraced(function*(plain) {
        const client = Funnel.reduce(plain, Reducer.Reducer, options)
        const all = yield* Effect.forkChild(
          Effect.forEach(requests, client.execute, { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* gate.arrived(expected)
        yield* gate.open
        yield* Fiber.join(all)
        return gate.state.arrived
      })
    ).pipe(Effect.provide(Reducer.layer()))
  }

  it.effect("takes requests apart by method, path, query and header, whatever the order and case of the headers", () =>
    Effect.gen(function*() {
      const get = HttpClientRequest.get("/a")
      expect(
        yield* reached(6, [
          get,
          HttpClientRequest.head("/a"),
          HttpClientRequest.get("/b"),
          HttpClientRequest.setUrlParam(get, "q", "1"),
          HttpClientRequest.setUrlParam(get, "q", "2"),
          HttpClientRequest.bearerToken(get, "mine"),
          HttpClientRequest.bearerToken(get, "mine")
        ])
      ).toBe(6)
      expect(
        yield* reached(1, [
          HttpClientRequest.setHeaders(get, { accept: "text/plain", "x-b": "1" }),
          HttpClientRequest.setHeaders(get, { "X-B": "1", Accept: "text/plain" })
        ])
      ).toBe(1)
    }))

  it.effect("compares no other headers than those it is told matter", () =>
    Effect.gen(function*() {
      const get = HttpClientRequest.get("/a")
      const requests = ["1", "2", "3"].map((id) => HttpClientRequest.setHeader(get, "x-request-id", id))
      expect(yield* reached(3, requests)).toBe(3)
      expect(yield* reached(1, requests, { headers: ["Authorization"] })).toBe(1)
      expect(
        yield* reached(2, [...requests, HttpClientRequest.bearerToken(get, "mine")], { headers: ["Authorization"] })
      ).toBe(2)
    }))

  it.effect("sends each of what changes something, has a body, upgrades or streams events", () =>
    Effect.gen(function*() {
      const twice = (request: HttpClientRequest.HttpClientRequest) => reached(2, [request, request])
      expect(yield* twice(HttpClientRequest.post("/a"))).toBe(2)
      expect(yield* twice(HttpClientRequest.delete("/a"))).toBe(2)
      expect(yield* twice(HttpClientRequest.options("/a"))).toBe(2)
      expect(yield* twice(HttpClientRequest.bodyText(HttpClientRequest.get("/a"), "body"))).toBe(2)
      expect(yield* twice(HttpClientRequest.upgrade(HttpClientRequest.get("/a"), "example"))).toBe(2)
      expect(yield* twice(HttpClientRequest.accept(HttpClientRequest.get("/a"), "text/event-stream"))).toBe(2)
      expect(yield* reached(1, [HttpClientRequest.get("/a"), HttpClientRequest.get("/a")])).toBe(1)
    }))

  it.effect("compares requests as they would be sent: a token that mapRequest adds behind it keeps users apart", () => {
    const gate = makeGate()
    return withServer(
      (request) => Effect.as(gate.pass, HttpServerResponse.text(request.headers["authorization"] ?? "nobody")),
      Effect.fnUntraced(function*(plain) {
        const reduced = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const as = (token: string) => HttpClient.mapRequest(reduced, HttpClientRequest.bearerToken(token))
        const all = yield* Effect.forkChild(
          Effect.all([textOf(as("a")), textOf(as("b")), textOf(as("a"))], { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* gate.arrived(2)
        yield* gate.open
        expect(yield* Fiber.join(all)).toEqual(["Bearer a", "Bearer b", "Bearer a"])
        expect(gate.state.arrived).toBe(2)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("shares nothing between two clients", () => {
    const gate = makeGate()
    return withServer(
      () => Effect.as(gate.pass, HttpServerResponse.text("ok")),
      Effect.fnUntraced(function*(plain) {
        const one = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const other = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const all = yield* Effect.forkChild(
          Effect.all([one.get("/"), other.get("/")], { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* gate.arrived(2)
        yield* gate.open
        yield* Fiber.join(all)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("lets the first caller leave unnoticed, and aborts the request when the last has left", () => {
    const gate = makeGate()
    const gone = Deferred.makeUnsafe<void>()
    return withServer(
      () =>
        gate.pass.pipe(
          Effect.as(HttpServerResponse.text("ok")),
          Effect.onInterrupt(() => Deferred.done(gone, Exit.void))
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const [first, second, third] = yield* Effect.all([
          Effect.forkChild(textOf(client), { startImmediately: true }),
          Effect.forkChild(textOf(client), { startImmediately: true }),
          Effect.forkChild(textOf(client, "/other"), { startImmediately: true })
        ])
        yield* gate.arrived(2)
        yield* Fiber.interrupt(first)
        yield* Fiber.interrupt(third)
        yield* Deferred.await(gone)
        yield* gate.open
        expect(yield* Fiber.join(second)).toBe("ok")
        expect(gate.state.arrived).toBe(2)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("shares a failure", () => {
    const gate = makeGate()
    return withServer(
      () => Effect.as(gate.pass, HttpServerResponse.empty({ status: 418 })),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(HttpClient.filterStatusOk, Funnel.reduce(Reducer.Reducer))
        const all = yield* Effect.forkChild(
          Effect.forEach([1, 2], () => Effect.flip(client.get("/")), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* gate.arrived(1)
        yield* gate.open
        expect((yield* Fiber.join(all)).map((error) => error.reason._tag)).toEqual(Array(2).fill("StatusCodeError"))
        expect(gate.state.arrived).toBe(1)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("shares a body that breaks off, as a failure of the request", () => {
    const gate = makeGate()
    return withServer(
      () =>
        Effect.succeed(
          HttpServerResponse.stream(Stream.concat(
            Stream.make(bytes),
            Stream.fromEffect(Effect.andThen(gate.pass, Effect.fail("broken")))
          ))
        ),
      Effect.fnUntraced(function*(plain) {
        const begun = Deferred.makeUnsafe<void>()
        const client = plain.pipe(
          HttpClient.tap(() => Deferred.done(begun, Exit.void)),
          Funnel.reduce(Reducer.Reducer)
        )
        const all = yield* Effect.forkChild(
          Effect.forEach([1, 2], () => Effect.flip(client.get("/")), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* Deferred.await(begun)
        yield* gate.open
        expect((yield* Fiber.join(all)).map((error) => error.reason._tag)).toEqual(Array(2).fill("DecodeError"))
        expect(gate.state.arrived).toBe(1)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("passes on responses without a body: 204, 304 and HEAD", () =>
    withServer(
      (request) =>
        Effect.succeed(
          request.url.endsWith("/204")
            ? HttpServerResponse.empty({ status: 204 })
            : request.url.endsWith("/304")
            ? HttpServerResponse.empty({ status: 304 })
            : HttpServerResponse.text("ok")
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        for (const [request, status] of [["/204", 204], ["/304", 304]] as const) {
          const response = yield* client.get(request)
          expect(response.status).toBe(status)
          expect(yield* response.text).toBe("")
          expect(yield* response.json).toBe(null)
        }
        const head = yield* client.head("/")
        expect(head.headers["content-length"]).toBe("2")
        expect(yield* head.text).toBe("")
      })
    ).pipe(Effect.provide(Reducer.layer())))
})

describe("penalize", () => {
  class Api extends RateLimiter.Service<Api>()("test/http/Api", { limit: 100, window: "1 second", burst: 100 }) {}

  /** How long the next call of this key would have to wait after one request that is answered so. */
  const waitAfter = (
    answer: { readonly status: number; readonly "retry-after"?: string },
    options?: Funnel.PenalizeOptions & { readonly ask?: string; readonly filtered?: boolean }
  ) =>
    withServer(
      () =>
        Effect.succeed(HttpServerResponse.empty({
          status: answer.status,
          headers: answer["retry-after"] === undefined ? {} : { "retry-after": answer["retry-after"] }
        })),
      Effect.fnUntraced(function*(plain) {
        const client = (options?.filtered === true ? HttpClient.filterStatusOk(plain) : plain).pipe(
          Funnel.penalize(Api, options)
        )
        const exit = yield* Effect.exit(client.get("/some/path"))
        expect(Exit.isSuccess(exit)).toBe(options?.filtered !== true || answer.status < 400)
        const next = yield* Effect.exit(Api.consume({ key: options?.ask, onExceeded: "fail" }))
        if (Exit.isSuccess(next)) return 0
        const error = yield* Effect.flip(Api.consume({ key: options?.ask, onExceeded: "fail" }))
        assert(error.reason._tag === "RateLimitExceeded")
        return Duration.toMillis(error.reason.retryAfter)
      })
    ).pipe(Effect.provide(Api.layer))

  it.effect("holds up the limiter for as long as a 429 or 503 asks, behind filterStatusOk too", () =>
    Effect.gen(function*() {
      expect(yield* waitAfter({ status: 429, "retry-after": "30" })).toBe(30_000)
      expect(yield* waitAfter({ status: 503, "retry-after": "7" })).toBe(7_000)
      expect(yield* waitAfter({ status: 429, "retry-after": "30" }, { filtered: true })).toBe(30_000)
    }))

  it.effect("reads a date as well, by the clock", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2030, 0, 1, 12, 0, 0))
      expect(yield* waitAfter({ status: 429, "retry-after": "Tue, 01 Jan 2030 12:00:45 GMT" })).toBe(45_000)
      expect(yield* waitAfter({ status: 429, "retry-after": "Tue, 01 Jan 2030 11:59:45 GMT" })).toBe(0)
    }))

  it.effect("leaves the limiter alone without Retry-After, with nonsense in it, with 0, and for another status", () =>
    Effect.gen(function*() {
      expect(yield* waitAfter({ status: 429 })).toBe(0)
      expect(yield* waitAfter({ status: 429, "retry-after": "soon" })).toBe(0)
      expect(yield* waitAfter({ status: 429, "retry-after": "-5" })).toBe(0)
      expect(yield* waitAfter({ status: 429, "retry-after": "0" })).toBe(0)
      expect(yield* waitAfter({ status: 500, "retry-after": "30" })).toBe(0)
      expect(yield* waitAfter({ status: 200, "retry-after": "30" })).toBe(0)
    }))

  it.effect("penalizes the key of the request and no other", () =>
    Effect.gen(function*() {
      const key = (request: HttpClientRequest.HttpClientRequest) => new URL(request.url).pathname
      const answer = { status: 429, "retry-after": "30" }
      expect(yield* waitAfter(answer, { key, ask: "/some/path" })).toBe(30_000)
      expect(yield* waitAfter(answer, { key, ask: "/other" })).toBe(0)
      expect(yield* waitAfter(answer, { key: "fixed", ask: "fixed" })).toBe(30_000)
    }))

  it.effect("does not wait longer than atMost, 1 hour by default", () =>
    Effect.gen(function*() {
      const answer = { status: 429, "retry-after": "1000000000" }
      expect(yield* waitAfter(answer, { atMost: "1 minute" })).toBe(60_000)
      expect(yield* waitAfter(answer)).toBe(3_600_000)
    }))

  it.effect("holds up the requests of a scheduler whose rate is that limiter, which are sent when the time has come", () => {
    let asked = 0
    return withServer(
      () =>
        Effect.sync(() =>
          ++asked === 1
            ? HttpServerResponse.empty({ status: 429, headers: { "retry-after": "10" } })
            : HttpServerResponse.text("ok")
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.penalize(Api), Funnel.schedule(Scheduler.Scheduler))
        expect((yield* client.get("/")).status).toBe(429)
        const second = yield* Effect.forkChild(client.get("/"), { startImmediately: true })
        yield* TestClock.adjust("9999 millis")
        expect((yield* Scheduler.stats).queued).toBe(1)
        expect(asked).toBe(1)
        yield* TestClock.adjust("1 millis")
        expect((yield* Fiber.join(second)).status).toBe(200)
      })
    ).pipe(
      Effect.provide(Scheduler.layer({ concurrency: 10, rate: Api })),
      Effect.provide(Api.layer)
    )
  })

  it("refuses an atMost that is no time", () => {
    const nobody = HttpClient.make(() => Effect.never)
    for (const atMost of [0, -1, Number.NaN]) {
      expect(() => Funnel.penalize(nobody, Api, { atMost })).toThrow(RangeError)
      expect(() => Funnel.penalize(nobody, Api, { atMost })).toThrow(
        `http.penalize: atMost must be a duration > 0, got ${atMost}`
      )
    }
  })

  it("refuses numbers that no job can have, where the client is made", () => {
    const nobody = HttpClient.make(() => Effect.never)
    for (const value of [Number.NaN, Infinity, -1, 1.5]) {
      expect(() => Funnel.schedule(nobody, Scheduler.Scheduler, { weight: value })).toThrow(
        new RangeError(`http.schedule: weight must be an integer >= 1, got ${value}`)
      )
      expect(() => nobody.pipe(Funnel.schedule(Scheduler.Scheduler, { tokens: value }))).toThrow(
        new RangeError(`http.schedule: tokens must be an integer >= 0, got ${value}`)
      )
    }
    expect(() => Funnel.schedule(nobody, Scheduler.Scheduler, { priority: Number.NaN })).toThrow(
      new RangeError("http.schedule: priority must be a finite number, got NaN")
    )
  })

  it("refuses words that it does not know", () => {
    const nobody = HttpClient.make(() => Effect.never)
    // As from JavaScript, or from a configuration.
    const word = JSON.parse(`"end"`)
    expect(() => Funnel.schedule(nobody, Scheduler.Scheduler, { hold: word })).toThrow(
      new RangeError(`http.schedule: hold must be "headers" or "body", got "end"`)
    )
    expect(() => Funnel.reduce(nobody, Reducer.Reducer, { headers: word })).toThrow(
      new RangeError(`http.reduce: headers must be "all" or a list of names, got "end"`)
    )
  })
})
