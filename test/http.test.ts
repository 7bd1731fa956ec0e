import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, describe, expect, it } from "@effect/vitest"
import { ByteSize, Cause, Deferred, Duration, Effect, Exit, Fiber, Latch, Layer, Ref, Stream } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import {
  FetchHttpClient,
  HttpClient,
  HttpClientRequest,
  HttpIncomingMessage,
  HttpRouter,
  HttpServer,
  HttpServerResponse
} from "effect/http"
import type { Cookies, HttpClientError, HttpClientResponse, HttpServerRequest } from "effect/http"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"

/** A real server that answers with `handler`, and a client with its own connections. */
const withServer = <A, E, R>(
  handler: (
    request: HttpServerRequest.HttpServerRequest
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse>,
  use: (client: HttpClient.HttpClient) => Effect.Effect<A, E, R>,
  transport: Layer.Layer<HttpClient.HttpClient> = NodeHttpClient.layerUndici
) =>
  HttpServer.addressFormattedWith((url) =>
    HttpClient.HttpClient.use((client) => use(HttpClient.mapRequest(client, HttpClientRequest.prependUrl(url)))).pipe(
      Effect.provide(transport)
    )
  ).pipe(
    Effect.provide(
      HttpRouter.serve(HttpRouter.add("*", "/*", handler), { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
      )
    )
  )

/** Counts the requests inside, and holds them until the gate opens. */
const makeGate = () => {
  const latch = Latch.makeUnsafe(false)
  const waiting: Array<{ readonly n: number; readonly reached: Deferred.Deferred<void> }> = []
  const gone = Deferred.makeUnsafe<void>()
  const state = { arrived: 0, inside: 0, most: 0, left: 0 }
  return {
    state,
    /** A request that waited inside was aborted. */
    gone: Deferred.await(gone),
    open: latch.open,
    /** Returns when `n` requests have arrived in total. */
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
      return Effect.onExit(latch.await, (exit) =>
        Effect.sync(() => {
          state.inside--
          state.left++
          if (Exit.isFailure(exit)) Deferred.doneUnsafe(gone, Exit.void)
        }))
    })
  }
}

/** A server that says "ok" when its gate is open. */
const withGate = <A, E, R>(
  use: (client: HttpClient.HttpClient, gate: ReturnType<typeof makeGate>) => Effect.Effect<A, E, R>
) => {
  const gate = makeGate()
  return withServer(() => Effect.as(gate.pass, HttpServerResponse.text("ok")), (client) => use(client, gate))
}

const textOf = <E, R>(client: HttpClient.HttpClient.With<E, R>, url = "/") =>
  Effect.flatMap(client.get(url), (response) => response.text)

describe("schedule", () => {
  it.effect("never has more requests in flight than the scheduler admits, and sends all of them", () => {
    return withGate(Effect.fnUntraced(function*(plain, gate) {
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
    })).pipe(Effect.provide(Scheduler.layer({ concurrency: 3 })))
  })

  it.effect("returns the permit when the response has begun, and with hold \"body\" when the body has arrived", () =>
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
    return withGate(Effect.fnUntraced(function*(plain, gate) {
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
    })).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
  })

  it.effect("returns the permit and aborts the request when it is interrupted in flight", () => {
    return withGate(Effect.fnUntraced(function*(plain, gate) {
      const client = plain.pipe(Funnel.schedule(Scheduler.Scheduler))
      const first = yield* Effect.forkChild(client.get("/"))
      yield* gate.arrived(1)
      yield* Fiber.interrupt(first)
      yield* gate.gone
      expect((yield* Scheduler.stats).running).toBe(0)
      yield* gate.open
      expect(yield* textOf(client)).toBe("ok")
    })).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 })))
  })

  it.effect("fails with SchedulerError when the scheduler refuses, and computes the weight from the request", () =>
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

  it.effect("queues every attempt again when retryTransient is applied after it", () => {
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

  it.effect("sends equal requests in flight once, and every caller reads the body in its own way, twice and as a stream", () => {
    const gate = makeGate()
    return withServer(
      () =>
        Effect.as(
          gate.pass,
          HttpServerResponse.uint8Array(bytes, {
            contentType: "application/json",
            headers: { "x-answer": "42" }
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

  it.effect("keeps no response: a later request is sent again", () => {
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

  /** The number of these requests that reach the server when all are in flight at once. */
  const reached = (
    expected: number,
    requests: ReadonlyArray<HttpClientRequest.HttpClientRequest>,
    options?: Funnel.ReduceOptions
  ) => {
    return withGate(Effect.fnUntraced(function*(plain, gate) {
      const client = Funnel.reduce(plain, Reducer.Reducer, options)
      const all = yield* Effect.forkChild(
        Effect.forEach(requests, client.execute, { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* gate.arrived(expected)
      yield* gate.open
      yield* Fiber.join(all)
      return gate.state.arrived
    })).pipe(Effect.provide(Reducer.layer()))
  }

  it.effect("distinguishes requests by method, path, query and header, whatever the order and case of the headers", () =>
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

  it.effect("compares only the headers in the given list", () =>
    Effect.gen(function*() {
      const get = HttpClientRequest.get("/a")
      const requests = ["1", "2", "3"].map((id) => HttpClientRequest.setHeader(get, "x-request-id", id))
      expect(yield* reached(3, requests)).toBe(3)
      expect(yield* reached(1, requests, { headers: ["Authorization"] })).toBe(1)
      expect(
        yield* reached(2, [...requests, HttpClientRequest.bearerToken(get, "mine")], { headers: ["Authorization"] })
      ).toBe(2)
    }))

  it.effect("sends every request that changes state, has a body, upgrades or streams events", () =>
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

  it.effect("compares requests as they are sent: a token that mapRequest adds later keeps users apart", () => {
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
    return withGate(Effect.fnUntraced(function*(plain, gate) {
      const one = plain.pipe(Funnel.reduce(Reducer.Reducer))
      const other = plain.pipe(Funnel.reduce(Reducer.Reducer))
      const all = yield* Effect.forkChild(
        Effect.all([one.get("/"), other.get("/")], { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* gate.arrived(2)
      yield* gate.open
      yield* Fiber.join(all)
    })).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("continues when the first caller leaves, and aborts the request when the last one leaves", () => {
    return withGate(Effect.fnUntraced(function*(plain, gate) {
      const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
      const [first, second, third] = yield* Effect.all([
        Effect.forkChild(textOf(client), { startImmediately: true }),
        Effect.forkChild(textOf(client), { startImmediately: true }),
        Effect.forkChild(textOf(client, "/other"), { startImmediately: true })
      ])
      yield* gate.arrived(2)
      yield* Fiber.interrupt(first)
      yield* Fiber.interrupt(third)
      yield* gate.gone
      yield* gate.open
      expect(yield* Fiber.join(second)).toBe("ok")
      expect(gate.state.arrived).toBe(2)
    })).pipe(Effect.provide(Reducer.layer()))
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

describe("reduce, where callers must not share", () => {
  /** Forks `n` calls at once, answers the first request when all wait for it, and returns each call's result. */
  const crowd = <A, E, R>(
    gate: ReturnType<typeof makeGate>,
    calls: ReadonlyArray<Effect.Effect<A, E, R>>
  ) =>
    Effect.gen(function*() {
      const all = yield* Effect.forkChild(Effect.all(calls, { concurrency: "unbounded" }), { startImmediately: true })
      yield* gate.arrived(1)
      yield* gate.open
      return yield* Fiber.join(all)
    })

  /** The results of four callers of one URL, where every answer has a number and these headers. */
  const numbers = (headers: Record<string, string>) => {
    const gate = makeGate()
    let sent = 0
    return withServer(
      () => Effect.map(gate.pass, () => HttpServerResponse.text(String(++sent), { headers })),
      (plain) => {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        return crowd(gate, Array.from({ length: 4 }, () => textOf(client)))
      }
    ).pipe(Effect.provide(Reducer.layer()))
  }

  it.effect("A response that sets a cookie, or is private, no-store or `Vary: *`, goes to one caller", () =>
    Effect.gen(function*() {
      for (
        const headers of [
          { "set-cookie": "session=1; Path=/" },
          { "set-cookie": "not a cookie" },
          { "cache-control": "private" },
          { "cache-control": "max-age=60, Private" },
          { "cache-control": "private=\"x-user\"" },
          { "cache-control": "no-store" },
          { vary: "accept, *" }
        ]
      ) {
        expect((yield* numbers(headers)).toSorted(), JSON.stringify(headers)).toEqual(["1", "2", "3", "4"])
      }
    }))

  it.effect("other responses are shared, whatever else their headers say", () =>
    Effect.gen(function*() {
      for (
        const headers of [
          { "cache-control": "public, max-age=60" },
          { "cache-control": "no-cache" },
          { "cache-control": "max-age=60, extension=\"private, no-store\"" },
          { vary: "accept-encoding, accept" }
        ]
      ) {
        expect(yield* numbers(headers), JSON.stringify(headers)).toEqual(["1", "1", "1", "1"])
      }
    }))

  it.effect("Every visitor has its own session in its cookie jar", () => {
    const gate = makeGate()
    let sent = 0
    return withServer(
      () =>
        Effect.map(
          gate.pass,
          () => HttpServerResponse.text("welcome", { headers: { "set-cookie": `session=${++sent}; Path=/` } })
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const jars = yield* Effect.forEach([1, 2, 3], () => Ref.make<ReadonlyArray<Cookies.Cookie>>([]))
        yield* crowd(gate, jars.map((jar) => textOf(HttpClient.withCookiesRef(client, jar))))
        const sessions = yield* Effect.forEach(jars, Ref.get)
        expect(sessions.flat().map((cookie) => cookie.value).toSorted()).toEqual(["1", "2", "3"])
        expect(sessions.map((jar) => jar.length)).toEqual([1, 1, 1])
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("Callers that joined a private response send their own request when it has begun, and wait only for their own body", () => {
    const bodies = Latch.makeUnsafe(false)
    const gate = makeGate()
    return withServer(
      () =>
        Effect.as(
          gate.pass,
          HttpServerResponse.stream(
            Stream.concat(
              Stream.make(new TextEncoder().encode("mi")),
              Stream.fromEffect(Effect.as(bodies.await, new TextEncoder().encode("ne")))
            ),
            { headers: { "cache-control": "private" } }
          )
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const all = yield* Effect.forkChild(
          Effect.forEach([1, 2, 3], () => client.get("/"), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* gate.arrived(1)
        yield* gate.open
        yield* gate.arrived(3)
        expect(yield* Reducer.inFlight).toEqual([])
        yield* bodies.open
        for (const response of yield* Fiber.join(all)) {
          expect([yield* response.text, yield* response.text]).toEqual(["mine", "mine"])
        }
        expect(gate.state.arrived).toBe(3)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("A private response whose caller has left is not delivered", () => {
    const gate = makeGate()
    let sent = 0
    return withServer(
      () =>
        Effect.suspend(() => {
          const number = ++sent
          return Effect.as(
            gate.pass,
            HttpServerResponse.text(String(number), { headers: { "cache-control": "private" } })
          )
        }),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const [first, ...others] = yield* Effect.all(
          [1, 2, 3].map(() => Effect.forkChild(textOf(client), { startImmediately: true }))
        )
        yield* gate.arrived(1)
        yield* Fiber.interrupt(first!)
        yield* gate.open
        expect((yield* Effect.forEach(others, Fiber.join)).toSorted()).toEqual(["2", "3"])
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("A private response whose caller has left is aborted unread", () => {
    const gate = makeGate()
    const gone = Deferred.makeUnsafe<void>()
    let sent = 0
    return withServer(
      () =>
        Effect.suspend(() => {
          const last = ++sent === 1 ? Effect.never : Effect.void
          return Effect.as(
            gate.pass,
            HttpServerResponse.stream(
              Stream.concat(
                Stream.make(new TextEncoder().encode("mine")),
                Stream.fromEffectDrain(last)
              ).pipe(Stream.onExit((exit) => Exit.isFailure(exit) ? Deferred.done(gone, Exit.void) : Effect.void)),
              { headers: { "cache-control": "no-store" } }
            )
          )
        }),
      Effect.fnUntraced(function*(plain) {
        // Core aborts responses that are garbage collected: these stay reachable.
        const kept: Array<HttpClientResponse.HttpClientResponse> = []
        const client = plain.pipe(
          HttpClient.tap((response) => Effect.sync(() => kept.push(response))),
          Funnel.reduce(Reducer.Reducer)
        )
        const first = yield* Effect.forkChild(textOf(client), { startImmediately: true })
        const second = yield* Effect.forkChild(textOf(client), { startImmediately: true })
        yield* gate.arrived(1)
        yield* Fiber.interrupt(first)
        yield* gate.open
        yield* Deferred.await(gone)
        expect(yield* Fiber.join(second)).toBe("mine")
        expect(kept.length).toBe(2)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("An error with a private response goes to one caller", () => {
    const gate = makeGate()
    let sent = 0
    return withServer(
      () =>
        Effect.map(
          gate.pass,
          () => HttpServerResponse.text(String(++sent), { status: 401, headers: { "set-cookie": `visitor=${sent}` } })
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(HttpClient.filterStatusOk, Funnel.reduce(Reducer.Reducer))
        const errors = yield* crowd(gate, [1, 2, 3].map(() => Effect.flip(client.get("/"))))
        const texts = yield* Effect.forEach(errors, (error) => error.response!.text)
        expect(texts.toSorted()).toEqual(["1", "2", "3"])
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("A response that varies by a header goes to the callers that sent the same value", () => {
    const gate = makeGate()
    return withServer(
      (request) =>
        Effect.as(
          gate.pass,
          HttpServerResponse.text(request.headers["accept-language"] ?? "any", {
            headers: { vary: "Accept-Language, Accept-Encoding" }
          })
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer, { headers: ["authorization"] }))
        const read = (language: string) =>
          textOf(HttpClient.mapRequest(client, HttpClientRequest.setHeader("accept-language", language)))
        const texts = yield* crowd(gate, [read("en"), read("de"), read("en"), textOf(client)])
        expect(texts).toEqual(["en", "de", "en", "any"])
        expect(gate.state.arrived).toBe(3)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("Range and conditional requests are distinguished, whatever list of headers is given", () => {
    const gate = makeGate()
    return withServer(
      ({ headers }) =>
        Effect.as(
          gate.pass,
          headers["if-none-match"] === "\"1\""
            ? HttpServerResponse.empty({ status: 304 })
            : headers["range"] === undefined
            ? HttpServerResponse.text("abcdef")
            : HttpServerResponse.text(headers["range"], { status: 206 })
        ),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer, { headers: [] }))
        const get = HttpClientRequest.get("/")
        const responses = yield* crowd(
          gate,
          [
            get,
            HttpClientRequest.setHeader(get, "range", "bytes=0-1"),
            HttpClientRequest.setHeader(get, "range", "bytes=2-3"),
            HttpClientRequest.setHeader(get, "if-none-match", "\"1\""),
            get
          ].map(client.execute)
        )
        expect(yield* Effect.forEach(responses, (response) => response.text))
          .toEqual(["abcdef", "bytes=0-1", "bytes=2-3", "", "abcdef"])
        expect(responses.map((response) => response.status)).toEqual([200, 206, 206, 304, 200])
        expect(gate.state.arrived).toBe(4)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  /** The results of callers that send the same request with these services in their context. */
  const inContexts = (
    contexts: ReadonlyArray<
      (effect: Effect.Effect<string, unknown, Reducer.Reducer>) => Effect.Effect<string, unknown, Reducer.Reducer>
    >,
    transport: Layer.Layer<HttpClient.HttpClient>
  ) => {
    const gate = makeGate()
    return withServer(
      ({ headers }) =>
        Effect.map(gate.pass, () => HttpServerResponse.text(`inbox of ${headers["authorization"] ?? "nobody"}`)),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const texts = yield* crowd(gate, contexts.map((provide) => provide(textOf(client))))
        return { texts, sent: gate.state.arrived }
      }),
      transport
    ).pipe(Effect.provide(Reducer.layer()))
  }

  it.effect("Requests with another RequestInit, fetch, options or bounds in the context are each sent", () =>
    Effect.gen(function*() {
      const init = (init: RequestInit) => Effect.provideService(FetchHttpClient.RequestInit, init)
      const as = (user: string) => init({ headers: { authorization: user } })
      expect(yield* inContexts([as("ada"), as("bob"), as("ada"), (_) => _], FetchHttpClient.layer)).toEqual({
        texts: ["inbox of ada", "inbox of bob", "inbox of ada", "inbox of nobody"],
        sent: 3
      })
      const options: ReadonlyArray<RequestInit> = [
        {},
        { credentials: "omit" },
        { cache: "no-store" },
        { redirect: "error" },
        { headers: new Headers({ authorization: "ada" }) },
        { headers: new Headers({ authorization: "bob" }) }
      ]
      const { sent, texts } = yield* inContexts(options.map(init), FetchHttpClient.layer)
      expect([sent, ...texts.slice(4)]).toEqual([6, "inbox of ada", "inbox of bob"])
      const fetches: ReadonlyArray<typeof fetch> = ["ada", "bob"].map((user) => (url, init) =>
        fetch(url, { ...init, headers: { authorization: user } })
      )
      expect(
        yield* inContexts(fetches.map((_) => Effect.provideService(FetchHttpClient.Fetch, _)), FetchHttpClient.layer)
      ).toEqual({ texts: ["inbox of ada", "inbox of bob"], sent: 2 })
      const bound = (bytes: number) =>
        Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.fromInputUnsafe(bytes))
      expect((yield* inContexts([bound(100), bound(1_000), bound(100)], NodeHttpClient.layerUndici)).sent).toBe(2)
      const timing = (blocking: boolean) => Effect.provideService(NodeHttpClient.UndiciOptions, { blocking })
      expect((yield* inContexts([timing(true), timing(false), timing(true)], NodeHttpClient.layerUndici)).sent).toBe(2)
    }))
})

describe("reduce, as each caller sees it", () => {
  it.effect("A shared error and its response hold the caller's own request", () => {
    const gate = makeGate()
    return withServer(
      (request) =>
        request.url === "/broken"
          ? Effect.succeed(HttpServerResponse.stream(Stream.concat(
            Stream.make(new TextEncoder().encode("be")),
            Stream.fromEffect(Effect.andThen(gate.pass, Effect.fail("broken")))
          )))
          : Effect.as(gate.pass, HttpServerResponse.text("too hot", { status: 418 })),
      Effect.fnUntraced(function*(plain) {
        let sent = 0
        const begun = Deferred.makeUnsafe<void>()
        const client = plain.pipe(
          HttpClient.filterStatusOk,
          // No server listens on this port.
          HttpClient.mapRequest((request) =>
            request.url.endsWith("/unreachable") ? HttpClientRequest.setUrl(request, "http://127.0.0.1:1/") : request
          ),
          HttpClient.transform((effect) => Effect.suspend(() => (sent++, effect))),
          HttpClient.tap(() => Deferred.done(begun, Exit.void)),
          Funnel.reduce(Reducer.Reducer, { headers: ["accept"] })
        )
        const users = ["ada", "bob", "cyd"]
        const fail = (url: string) =>
          Effect.forEach(
            users,
            (user) =>
              client.execute(HttpClientRequest.get(url).pipe(HttpClientRequest.bearerToken(user))).pipe(Effect.flip),
            { concurrency: "unbounded" }
          )
        const owners = (errors: ReadonlyArray<HttpClientError.HttpClientError>) =>
          errors.map((
            error
          ) => [error.request.headers["authorization"], error.response?.request.headers["authorization"]])
        const own = users.map((user) => [`Bearer ${user}`, `Bearer ${user}`])

        const refused = yield* Effect.forkChild(fail("/"), { startImmediately: true })
        yield* gate.arrived(1)
        const broken = yield* Effect.forkChild(fail("/broken"), { startImmediately: true })
        yield* Deferred.await(begun)
        yield* gate.open
        const statuses = yield* Fiber.join(refused)
        expect(statuses.map((error) => error.reason._tag)).toEqual(Array(3).fill("StatusCodeError"))
        expect(owners(statuses)).toEqual(own)
        for (const { response } of statuses) {
          expect([response!.status, yield* response!.text, yield* response!.text]).toEqual([418, "too hot", "too hot"])
          expect(yield* Stream.mkString(Stream.decodeText(response!.stream))).toBe("too hot")
        }
        const breaks = yield* Fiber.join(broken)
        expect(breaks.map((error) => error.reason._tag)).toEqual(Array(3).fill("DecodeError"))
        expect(owners(breaks)).toEqual(own)
        for (const { response } of breaks) {
          expect(response!.status).toBe(200)
          const again = yield* Effect.flip(response!.text)
          expect(again.reason._tag).toBe("DecodeError")
          expect(again.request).toBe(response!.request)
        }
        expect(sent).toBe(2)

        const unreachable = yield* fail("/unreachable")
        expect(unreachable.map((error) => error.reason._tag)).toEqual(Array(3).fill("TransportError"))
        expect(unreachable.map((error) => error.reason.cause)).toEqual(Array(3).fill(expect.any(Error)))
        expect(owners(unreachable)).toEqual(users.map((user) => [`Bearer ${user}`, undefined]))
        expect(sent).toBe(3)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("A body that fails to decode reports the response's status, headers and URL, also with a scheduler", () =>
    withServer(
      () => Effect.succeed(HttpServerResponse.text("<html>", { status: 502, headers: { "x-id": "77" } })),
      Effect.fnUntraced(function*(plain) {
        for (
          const client of [
            plain.pipe(Funnel.reduce(Reducer.Reducer)),
            plain.pipe(Funnel.schedule(Scheduler.Scheduler, { hold: "body" }))
          ]
        ) {
          const response = yield* client.get("/page")
          for (const error of [yield* Effect.flip(response.json), yield* Effect.flip(response.formData)]) {
            expect(error.reason._tag).toBe("DecodeError")
            expect(error.message).toContain("502")
            expect(error.response).toBe(response)
            expect(error.response!.headers["x-id"]).toBe("77")
            expect(error.response!.url).toMatch(/\/page$/)
            expect(error.reason.cause).toBeInstanceOf(Error)
          }
        }
      })
    ).pipe(Effect.provide(Layer.merge(Reducer.layer(), Scheduler.layer({ concurrency: 1 })))))

  it.effect("An empty body is an empty stream", () =>
    withServer(
      () => Effect.succeed(HttpServerResponse.empty({ status: 200 })),
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
        const response = yield* client.get("/")
        expect(yield* Stream.runCollect(response.stream)).toEqual([])
      })
    ).pipe(Effect.provide(Reducer.layer())))

  it.effect("A redirect is followed once for all callers, by fetch or by the client, and each caller sees the final URL", () =>
    Effect.gen(function*() {
      for (const where of ["by fetch", "inside", "outside"] as const) {
        const gate = makeGate()
        yield* withServer(
          (request) =>
            Effect.as(
              gate.pass,
              request.url === "/new" ? HttpServerResponse.text("moved") : HttpServerResponse.redirect("/new")
            ),
          Effect.fnUntraced(function*(plain) {
            const reduce = Funnel.reduce(Reducer.Reducer)
            const client = where === "inside"
              ? plain.pipe(HttpClient.followRedirects(), reduce)
              : where === "outside"
              ? plain.pipe(reduce, HttpClient.followRedirects())
              : plain.pipe(reduce)
            const all = yield* Effect.forkChild(
              Effect.forEach([1, 2, 3], () => client.get("/old"), { concurrency: "unbounded" }),
              { startImmediately: true }
            )
            yield* gate.arrived(1)
            yield* gate.open
            for (const response of yield* Fiber.join(all)) {
              expect([response.status, yield* response.text], where).toEqual([200, "moved"])
              expect(response.url, where).toMatch(/\/new$/)
            }
            expect(gate.state.arrived, where).toBe(2)
          }),
          where === "by fetch" ? FetchHttpClient.layer : NodeHttpClient.layerUndici
        ).pipe(Effect.provide(Reducer.layer()))
      }
    }))

  /** Answers in two halves, the second when `rest` opens, and reports when the answer is aborted. */
  const halves = () => {
    const rest = Latch.makeUnsafe(false)
    const begun = Deferred.makeUnsafe<void>()
    const gone = Deferred.makeUnsafe<void>()
    let sent = 0
    const encode = (text: string) => new TextEncoder().encode(text)
    return {
      rest,
      begun,
      gone,
      sent: () => sent,
      answer: () =>
        Effect.sync(() => {
          sent++
          return HttpServerResponse.stream(
            Stream.concat(
              Stream.make(encode("one ")),
              Stream.fromEffect(Effect.as(rest.await, encode("two")))
            ).pipe(Stream.onExit((exit) => Exit.isFailure(exit) ? Deferred.done(gone, Exit.void) : Effect.void))
          )
        }),
      /** Signals that the response has begun. */
      watched: HttpClient.tap(() => Deferred.done(begun, Exit.void))
    }
  }

  it.effect("A caller that joins or leaves while the body arrives does not affect the others", () => {
    const { answer, begun, rest, sent, watched } = halves()
    return withServer(
      answer,
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(watched, Funnel.reduce(Reducer.Reducer))
        const first = yield* Effect.forkChild(textOf(client), { startImmediately: true })
        yield* Deferred.await(begun)
        const second = yield* Effect.forkChild(textOf(client), { startImmediately: true })
        const third = yield* Effect.forkChild(textOf(client), { startImmediately: true })
        yield* Fiber.interrupt(first)
        yield* Fiber.interrupt(third)
        expect(Cause.hasInterruptsOnly(yield* Effect.flip(Effect.sandbox(Fiber.join(first))))).toBe(true)
        yield* rest.open
        expect(yield* Fiber.join(second)).toBe("one two")
        expect(sent()).toBe(1)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("The response is aborted when the last caller leaves while its body arrives", () => {
    const { answer, begun, gone, rest, sent, watched } = halves()
    return withServer(
      answer,
      Effect.fnUntraced(function*(plain) {
        const client = plain.pipe(watched, Funnel.reduce(Reducer.Reducer))
        const callers = yield* Effect.all(
          [1, 2, 3].map(() => Effect.forkChild(textOf(client), { startImmediately: true }))
        )
        yield* Deferred.await(begun)
        yield* Effect.yieldNow
        yield* Fiber.interruptAll(callers)
        yield* Deferred.await(gone)
        yield* rest.open
        expect(yield* textOf(client)).toBe("one two")
        expect(sent()).toBe(2)
      })
    ).pipe(Effect.provide(Reducer.layer()))
  })

  it.effect("A scope around one caller's request does not abort the shared request", () => {
    return withGate(Effect.fnUntraced(function*(plain, gate) {
      const client = plain.pipe(Funnel.reduce(Reducer.Reducer))
      const first = yield* Effect.forkChild(Effect.scoped(textOf(HttpClient.withScope(client))), {
        startImmediately: true
      })
      const second = yield* Effect.forkChild(textOf(client), { startImmediately: true })
      yield* gate.arrived(1)
      yield* Fiber.interrupt(first)
      yield* gate.open
      expect(yield* Fiber.join(second)).toBe("ok")
      expect(gate.state.arrived).toBe(1)
    })).pipe(Effect.provide(Reducer.layer()))
  })
})

describe("penalize", () => {
  class Api extends RateLimiter.Service<Api>()("test/http/Api", { limit: 100, window: "1 second", burst: 100 }) {}

  /** The wait of the key's next call after a request with this answer. */
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

  it.effect("delays the limiter for as long as a 429 or 503 asks, also after filterStatusOk", () =>
    Effect.gen(function*() {
      expect(yield* waitAfter({ status: 429, "retry-after": "30" })).toBe(30_000)
      expect(yield* waitAfter({ status: 503, "retry-after": "7" })).toBe(7_000)
      expect(yield* waitAfter({ status: 429, "retry-after": "30" }, { filtered: true })).toBe(30_000)
    }))

  it.effect("reads a date relative to the clock", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2030, 0, 1, 12, 0, 0))
      expect(yield* waitAfter({ status: 429, "retry-after": "Tue, 01 Jan 2030 12:00:45 GMT" })).toBe(45_000)
      expect(yield* waitAfter({ status: 429, "retry-after": "Tue, 01 Jan 2030 11:59:45 GMT" })).toBe(0)
    }))

  it.effect("does not penalize without Retry-After, with an invalid value, with 0, or for another status", () =>
    Effect.gen(function*() {
      expect(yield* waitAfter({ status: 429 })).toBe(0)
      expect(yield* waitAfter({ status: 429, "retry-after": "soon" })).toBe(0)
      expect(yield* waitAfter({ status: 429, "retry-after": "-5" })).toBe(0)
      expect(yield* waitAfter({ status: 429, "retry-after": "0" })).toBe(0)
      expect(yield* waitAfter({ status: 500, "retry-after": "30" })).toBe(0)
      expect(yield* waitAfter({ status: 200, "retry-after": "30" })).toBe(0)
    }))

  it.effect("penalizes only the key of the request", () =>
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

  it.effect("delays the requests of a scheduler that uses the limiter as its rate, and then sends them", () => {
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

  it("refuses an atMost that is not a positive duration", () => {
    const nobody = HttpClient.make(() => Effect.never)
    for (const atMost of [0, -1, Number.NaN]) {
      expect(() => Funnel.penalize(nobody, Api, { atMost })).toThrow(RangeError)
      expect(() => Funnel.penalize(nobody, Api, { atMost })).toThrow(
        `http.penalize: atMost must be a duration > 0, got ${atMost}`
      )
    }
  })

  it("refuses invalid numbers when the client is made", () => {
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

  it("refuses unknown words", () => {
    const nobody = HttpClient.make(() => Effect.never)
    // Such values come from JavaScript or from a configuration.
    const word = JSON.parse(`"end"`)
    expect(() => Funnel.schedule(nobody, Scheduler.Scheduler, { hold: word })).toThrow(
      new RangeError(`http.schedule: hold must be "headers" or "body", got "end"`)
    )
    expect(() => Funnel.reduce(nobody, Reducer.Reducer, { headers: word })).toThrow(
      new RangeError(`http.reduce: headers must be "all" or a list of names, got "end"`)
    )
  })
})
