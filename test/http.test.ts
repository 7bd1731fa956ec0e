import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, expect, it } from "@effect/vitest"
import { ByteSize, Cause, Deferred, Duration, Effect, Exit, Fiber, Latch, Option, Ref, Stream } from "effect"
import type { Layer } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import {
  FetchHttpClient,
  HttpClient,
  HttpClientError,
  HttpClientRequest,
  HttpClientResponse,
  HttpIncomingMessage,
  HttpServerResponse
} from "effect/http"
import type { Cookies, HttpServerRequest } from "effect/http"
import { TestClock } from "effect/testing"
import { fork, unbounded } from "./support/fibers.ts"
import { withServer } from "./support/httpServer.ts"

type Client = HttpClient.HttpClient
type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

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
type Gate = ReturnType<typeof makeGate>

/** A server whose answers wait for a gate. */
const withGate = <Eff extends Effect.Effect<any, any, any>, A>(
  answer: (request: Request) => Response,
  use: (client: Client, gate: Gate) => Generator<Eff, A, never>,
  transport?: Layer.Layer<Client>
) => {
  const gate = makeGate()
  return withServer(
    (request) => Effect.map(gate.pass, () => answer(request)),
    (client) => use(client, gate),
    transport
  )
}

const ok = () => HttpServerResponse.text("ok")

/** Answers with the number of the answer. */
const counter = (options?: HttpServerResponse.Options) => {
  let sent = 0
  return () => HttpServerResponse.text(String(++sent), options)
}

/** An answer in two halves: the second comes when `rest` ends. */
const halves = (first: string, rest: Effect.Effect<unknown>, second: string, headers = {}) => {
  const encode = (text: string) => new TextEncoder().encode(text)
  return HttpServerResponse.stream(
    Stream.concat(Stream.make(encode(first)), Stream.fromEffect(Effect.as(rest, encode(second)))),
    { headers }
  )
}

const reduced = Funnel.reduce(Reducer.Reducer)

const textOf = <E, R>(client: HttpClient.HttpClient.With<E, R>, url = "/") =>
  Effect.flatMap(client.get(url), (response) => response.text)

/** Forks the calls at once, opens the gate when `n` requests have arrived, and returns each call's result. */
const crowd = <A, E, R>(gate: Gate, calls: ReadonlyArray<Effect.Effect<A, E, R>>, n = 1) =>
  Effect.gen(function*() {
    const all = yield* fork(Effect.all(calls, unbounded))
    yield* gate.arrived(n)
    yield* gate.open
    return yield* Fiber.join(all)
  })

const times = <A>(n: number, call: A): ReadonlyArray<A> => Array.from({ length: n }, () => call)

describe("schedule", () => {
  const one = Scheduler.layer({ concurrency: 1 })

  it.effect("never has more requests in flight than the scheduler admits, and sends all of them", () =>
    withGate(ok, function*(plain, gate) {
      const client = Funnel.schedule(plain, Scheduler.Scheduler)
      const all = yield* fork(Effect.all(Array.from({ length: 12 }, (_, i) => client.get(`/${i}`)), unbounded))
      yield* gate.arrived(3)
      expect(yield* Scheduler.stats).toMatchObject({ running: 3, queued: 9 })
      yield* gate.open
      const responses = yield* Fiber.join(all)
      expect(responses.map((response) => response.status)).toEqual(Array(12).fill(200))
      expect(gate.state).toMatchObject({ arrived: 12, most: 3 })
    }).pipe(Effect.provide(Scheduler.layer({ concurrency: 3 }))))

  it.effect("holds the permit also for the body of the response that an error carries, with hold \"body\"", () => {
    const body = Latch.makeUnsafe(false)
    const busy = () =>
      HttpServerResponse.setStatus(halves("too ", body.await, "busy", { "cache-control": "no-store" }), 503)
    return withServer(() => Effect.sync(busy), function*(plain) {
      const begun = Deferred.makeUnsafe<void>()
      const client = plain.pipe(
        HttpClient.tap(() => Deferred.done(begun, Exit.void)),
        HttpClient.filterStatusOk,
        Funnel.schedule(Scheduler.Scheduler, { hold: "body" })
      )
      const call = yield* fork(Effect.flip(client.get("/")))
      yield* Deferred.await(begun)
      yield* Effect.repeat(Effect.yieldNow, { times: 10 })
      expect((yield* Scheduler.stats).running).toBe(1)
      yield* body.open
      const error = yield* Fiber.join(call)
      assert(HttpClientError.isHttpClientError(error))
      expect([error.reason._tag, error.response!.status]).toEqual(["StatusCodeError", 503])
      expect([yield* error.response!.text, yield* error.response!.text]).toEqual(["too busy", "too busy"])
    }).pipe(Effect.provide(one))
  })

  it.effect("passes on a failure that has no response, whatever it holds", () =>
    Effect.gen(function*() {
      const away = HttpClient.make((request) =>
        Effect.fail(new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request }) }))
      )
      type Sent = Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError | string>
      const clients = ["transport", "own"].map((what) =>
        HttpClient.transform(away, (sent): Sent => what === "own" ? Effect.fail("own") : sent)
      )
      for (const hold of ["headers", "body"] as const) {
        const errors = yield* Effect.forEach(clients, (client) =>
          Effect.flip(Funnel.schedule(client, Scheduler.Scheduler, { hold }).get("http://backend.test/")))
        expect(errors.map((error) =>
          typeof error === "string" ? error : error.reason._tag
        ))
          .toEqual(["TransportError", "own"])
      }
      expect((yield* Scheduler.stats).running).toBe(0)
    }).pipe(Effect.provide(one)))

  for (const hold of ["headers", "body"] as const) {
    it.effect(`returns the permit when the ${hold === "body" ? "body has arrived" : "response has begun"}, with hold "${hold}"`, () => {
      const body = Latch.makeUnsafe(false)
      return withServer(() => Effect.succeed(halves("be", body.await, "gun")), function*(plain) {
        const begun = Deferred.makeUnsafe<void>()
        const given = Deferred.makeUnsafe<void>()
        const client = plain.pipe(
          HttpClient.tap(() => Deferred.done(begun, Exit.void)),
          Funnel.schedule(Scheduler.Scheduler, { hold }),
          HttpClient.tap(() => Deferred.done(given, Exit.void))
        )
        const first = yield* fork(textOf(client))
        yield* Deferred.await(hold === "headers" ? given : begun)
        yield* Effect.repeat(Effect.yieldNow, { times: 10 })
        expect((yield* Scheduler.stats).running).toBe(hold === "headers" ? 0 : 1)
        expect(Deferred.isDoneUnsafe(given)).toBe(hold === "headers")
        yield* body.open
        expect(yield* Fiber.join(first)).toBe("begun")
        expect((yield* Scheduler.stats).running).toBe(0)
      }).pipe(Effect.provide(one))
    })
  }

  it.effect("does not send a request that is interrupted in the queue", () =>
    withGate(ok, function*(plain, gate) {
      const client = plain.pipe(Funnel.schedule(Scheduler.Scheduler))
      const first = yield* fork(client.get("/"))
      yield* gate.arrived(1)
      const queued = yield* fork(client.get("/"))
      expect((yield* Scheduler.stats).queued).toBe(1)
      yield* Fiber.interrupt(queued)
      expect((yield* Scheduler.stats).queued).toBe(0)
      yield* gate.open
      yield* Fiber.join(first)
      expect(gate.state.arrived).toBe(1)
    }).pipe(Effect.provide(one)))

  it.effect("returns the permit and aborts the request when it is interrupted in flight", () =>
    withGate(ok, function*(plain, gate) {
      const client = plain.pipe(Funnel.schedule(Scheduler.Scheduler))
      const first = yield* fork(client.get("/"))
      yield* gate.arrived(1)
      yield* Fiber.interrupt(first)
      yield* gate.gone
      expect((yield* Scheduler.stats).running).toBe(0)
      yield* gate.open
      expect(yield* textOf(client)).toBe("ok")
    }).pipe(Effect.provide(one)))

  it.effect("fails with SchedulerError when the scheduler refuses, and computes the weight from the request", () =>
    withServer(() => Effect.sync(ok), function*(plain) {
      const client = plain.pipe(
        Funnel.schedule(Scheduler.Scheduler, { weight: (request) => request.url.endsWith("/heavy") ? 3 : 1 })
      )
      expect((yield* client.get("/light")).status).toBe(200)
      const error = yield* Effect.flip(client.get("/heavy"))
      assert(error._tag === "SchedulerError")
      expect(error.reason).toMatchObject({ _tag: "InsufficientCapacity", what: "weight", asked: 3, most: 2 })
    }).pipe(Effect.provide(Scheduler.layer({ concurrency: 2 }))))

  it.effect("queues every attempt again when retryTransient is applied after it", () => {
    let attempts = 0
    return withServer(
      () => Effect.sync(() => HttpServerResponse.text("", { status: ++attempts < 3 ? 503 : 200 })),
      function*(plain) {
        let queued = 0
        const client = plain.pipe(
          HttpClient.transform((effect) => Effect.suspend(() => (queued++, effect))),
          Funnel.schedule(Scheduler.Scheduler),
          HttpClient.retryTransient({ times: 5 })
        )
        expect((yield* client.get("/")).status).toBe(200)
        expect(queued).toBe(3)
        expect((yield* Scheduler.stats).running).toBe(0)
      }
    ).pipe(Effect.provide(one))
  })
})

describe("reduce", () => {
  it.effect("sends equal requests in flight once, and every caller reads the body in its own way, twice and as a stream", () => {
    const bytes = new TextEncoder().encode("{\"n\":1}")
    return withGate(
      () => HttpServerResponse.uint8Array(bytes, { contentType: "application/json", headers: { "x-answer": "42" } }),
      function*(plain, gate) {
        const responses = yield* crowd(gate, times(6, reduced(plain).get("/a?b=c")))
        expect(gate.state.arrived).toBe(1)
        expect(new Set(responses).size).toBe(6)
        for (const response of responses) {
          expect(response.status).toBe(200)
          expect(response.headers["x-answer"]).toBe("42")
          expect(response.url).toMatch(/\/a\?b=c$/)
          expect(yield* response.json).toEqual({ n: 1 })
          for (let i = 0; i < 2; i++) {
            expect(yield* response.text).toBe("{\"n\":1}")
            expect(yield* Stream.runCollect(response.stream)).toEqual([bytes])
          }
        }
        const mine = new Uint8Array(yield* responses[0]!.arrayBuffer)
        mine.fill(0)
        expect(new Uint8Array(yield* responses[1]!.arrayBuffer)).toEqual(bytes)
        expect(new Uint8Array(yield* responses[0]!.arrayBuffer)).toEqual(bytes)
      }
    )
  })

  it.effect("keeps no response: a later request is sent again", () => {
    const answer = counter()
    return withServer(() => Effect.sync(answer), function*(plain) {
      expect(yield* textOf(reduced(plain))).toBe("1")
      expect(yield* textOf(reduced(plain))).toBe("2")
    })
  })

  /** Sends the requests at once, and expects that as many of them reach the server. */
  const reaches = (
    expected: number,
    requests: ReadonlyArray<HttpClientRequest.HttpClientRequest>,
    options?: Funnel.ReduceOptions
  ) =>
    withGate(ok, function*(plain, gate) {
      yield* crowd(gate, requests.map(Funnel.reduce(plain, Reducer.Reducer, options).execute), expected)
      expect(gate.state.arrived).toBe(expected)
    })
  const get = HttpClientRequest.get("/a")

  it.effect("takes a reducer's handle as well as its tag", () =>
    withGate(ok, function*(plain, gate) {
      const reducer = yield* Reducer.make()
      const client = plain.pipe(Funnel.reduce(reducer))
      yield* crowd(gate, [client.execute(get), client.execute(get)], 1)
      expect(gate.state.arrived).toBe(1)
    }))

  it.effect("distinguishes requests by method, path, query and header, whatever the order and case of the headers", () =>
    Effect.gen(function*() {
      yield* reaches(6, [
        get,
        HttpClientRequest.head("/a"),
        HttpClientRequest.get("/b"),
        HttpClientRequest.setUrlParam(get, "q", "1"),
        HttpClientRequest.setUrlParam(get, "q", "2"),
        HttpClientRequest.bearerToken(get, "mine"),
        HttpClientRequest.bearerToken(get, "mine")
      ])
      yield* reaches(1, [
        HttpClientRequest.setHeaders(get, { accept: "text/plain", "x-b": "1" }),
        HttpClientRequest.setHeaders(get, { "X-B": "1", Accept: "text/plain" })
      ])
    }))

  it.effect("compares only the headers in the given list", () =>
    Effect.gen(function*() {
      const requests = ["1", "2", "3"].map((id) => HttpClientRequest.setHeader(get, "x-request-id", id))
      const options = { headers: ["Authorization"] }
      yield* reaches(3, requests)
      yield* reaches(1, requests, options)
      yield* reaches(2, [...requests, HttpClientRequest.bearerToken(get, "mine")], options)
    }))

  it.effect("sends every request that changes state, has a body, upgrades or streams events", () =>
    Effect.gen(function*() {
      for (
        const request of [
          HttpClientRequest.post("/a"),
          HttpClientRequest.delete("/a"),
          HttpClientRequest.options("/a"),
          HttpClientRequest.bodyText(get, "body"),
          HttpClientRequest.upgrade(get, "example"),
          HttpClientRequest.accept(get, "text/event-stream")
        ]
      ) yield* reaches(2, [request, request])
      yield* reaches(1, [get, get])
    }))

  it.effect("compares requests as they are sent: a token that mapRequest adds later keeps users apart", () =>
    withGate(
      (request) => HttpServerResponse.text(request.headers["authorization"] ?? "nobody"),
      function*(plain, gate) {
        const client = reduced(plain)
        const as = (token: string) => textOf(HttpClient.mapRequest(client, HttpClientRequest.bearerToken(token)))
        expect(yield* crowd(gate, ["a", "b", "a"].map(as), 2)).toEqual(["Bearer a", "Bearer b", "Bearer a"])
        expect(gate.state.arrived).toBe(2)
      }
    ))

  it.effect("shares nothing between two clients", () =>
    withGate(ok, function*(plain, gate) {
      yield* crowd(gate, [textOf(reduced(plain)), textOf(reduced(plain))], 2)
    }))

  it.effect("continues when the first caller leaves, and aborts the request when the last one leaves", () =>
    withGate(ok, function*(plain, gate) {
      const client = reduced(plain)
      const first = yield* fork(textOf(client))
      const second = yield* fork(textOf(client))
      const third = yield* fork(textOf(client, "/other"))
      yield* gate.arrived(2)
      yield* Fiber.interrupt(first)
      yield* Fiber.interrupt(third)
      yield* gate.gone
      yield* gate.open
      expect(yield* Fiber.join(second)).toBe("ok")
      expect(gate.state.arrived).toBe(2)
    }))

  it.effect("passes on responses without a body: 204, 304 and HEAD", () =>
    withServer(
      ({ url }) => Effect.sync(() => url === "/" ? ok() : HttpServerResponse.empty({ status: Number(url.slice(1)) })),
      function*(plain) {
        const client = reduced(plain)
        for (const status of [204, 304]) {
          const response = yield* client.get(`/${status}`)
          expect(response.status).toBe(status)
          expect(yield* response.text).toBe("")
          expect(yield* response.json).toBe(null)
        }
        const head = yield* client.head("/")
        expect(head.headers["content-length"]).toBe("2")
        expect(yield* head.text).toBe("")
      }
    ))
})

describe("reduce, where callers must not share", () => {
  const all = ["1", "2", "3", "4"]

  for (
    const [headers, expected] of [
      [{ "set-cookie": "session=1; Path=/" }, all],
      [{ "set-cookie": "not a cookie" }, all],
      [{ "cache-control": "private" }, all],
      [{ "cache-control": "max-age=60, Private" }, all],
      [{ "cache-control": "private=\"x-user\"" }, all],
      [{ "cache-control": "no-store" }, all],
      [{ vary: "accept, *" }, all],
      [{ "cache-control": "public, max-age=60" }, Array(4).fill("1")],
      [{ "cache-control": "no-cache" }, Array(4).fill("1")],
      [{ "cache-control": "max-age=60, extension=\"private, no-store\"" }, Array(4).fill("1")],
      [{ vary: "accept-encoding, accept" }, Array(4).fill("1")]
    ] as const
  ) {
    it.effect(`A response with ${JSON.stringify(headers)} goes to ${expected === all ? "one caller" : "all callers"}`, () =>
      withGate(counter({ headers }), function*(plain, gate) {
        const texts = yield* crowd(gate, times(4, textOf(reduced(plain))))
        expect(texts.toSorted()).toEqual(expected)
      }))
  }

  it.effect("Every visitor has its own session in its cookie jar", () => {
    let sent = 0
    return withGate(
      () => HttpServerResponse.text("welcome", { headers: { "set-cookie": `session=${++sent}; Path=/` } }),
      function*(plain, gate) {
        const client = reduced(plain)
        const jars = yield* Effect.forEach([1, 2, 3], () => Ref.make<ReadonlyArray<Cookies.Cookie>>([]))
        yield* crowd(gate, jars.map((jar) => textOf(HttpClient.withCookiesRef(client, jar))))
        const sessions = yield* Effect.forEach(jars, Ref.get)
        expect(sessions.flat().map((cookie) => cookie.value).toSorted()).toEqual(["1", "2", "3"])
        expect(sessions.map((jar) => jar.length)).toEqual([1, 1, 1])
      }
    )
  })

  it.effect("Callers that joined a private response send their own request when it has begun, and wait only for their own body", () => {
    const bodies = Latch.makeUnsafe(false)
    return withGate(() => halves("mi", bodies.await, "ne", { "cache-control": "private" }), function*(plain, gate) {
      const all = yield* fork(Effect.all(times(3, reduced(plain).get("/")), unbounded))
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
  })

  it.effect("Callers that joined a private response of an error send their own request when it has begun", () => {
    const bodies = Latch.makeUnsafe(false)
    const busy = () =>
      HttpServerResponse.setStatus(halves("mi", bodies.await, "ne", { "cache-control": "private" }), 503)
    return withGate(busy, function*(plain, gate) {
      const client = reduced(HttpClient.filterStatusOk(plain))
      const all = yield* fork(Effect.all(times(3, Effect.flip(client.get("/"))), unbounded))
      yield* gate.arrived(1)
      yield* gate.open
      yield* gate.arrived(3)
      expect(yield* Reducer.inFlight).toEqual([])
      yield* bodies.open
      for (const error of yield* Fiber.join(all)) expect(yield* error.response!.text).toBe("mine")
      expect(gate.state.arrived).toBe(3)
    })
  })

  it.effect("A private response whose caller leaves in the step in which it comes is aborted, too", () => {
    let first: Fiber.Fiber<unknown, unknown> | undefined
    // Callers are resumed after the hook.
    const hooks = { onSuccess: () => first?.interruptUnsafe() }
    return Effect.gen(function*() {
      const gate = Latch.makeUnsafe(false)
      const signals: Array<AbortSignal> = []
      const kept: Array<HttpClientResponse.HttpClientResponse> = []
      const backend = HttpClient.make((request, _, signal) => {
        // The body of the first one does not end.
        const body = signals.push(signal) === 1 ? new ReadableStream() : "mine"
        const response = new globalThis.Response(body, { headers: { "cache-control": "private" } })
        return Effect.as(gate.await, HttpClientResponse.fromWeb(request, response))
      })
      const client = reduced(HttpClient.tap(backend, (response) => Effect.sync(() => kept.push(response))))
      first = yield* fork(textOf(client, "http://backend.test/"))
      const second = yield* fork(textOf(client, "http://backend.test/"))
      yield* gate.open
      expect(yield* Fiber.join(second)).toBe("mine")
      expect(Exit.hasInterrupts(yield* Fiber.await(first))).toBe(true)
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
      expect(kept.length).toBe(2)
    }).pipe(Effect.provide(Reducer.layer({ hooks })))
  })

  it.effect("A private response whose caller has left is aborted unread", () => {
    const gate = makeGate()
    const gone = Deferred.makeUnsafe<void>()
    let sent = 0
    return withServer(
      () =>
        Effect.suspend(() => {
          const rest = Effect.onInterrupt(
            ++sent === 1 ? Effect.never : Effect.void,
            () => Deferred.done(gone, Exit.void)
          )
          return Effect.as(gate.pass, halves("mi", rest, "ne", { "cache-control": "no-store" }))
        }),
      function*(plain) {
        // Core aborts responses that are garbage collected: these stay reachable.
        const kept: Array<HttpClientResponse.HttpClientResponse> = []
        const client = reduced(HttpClient.tap(plain, (response) => Effect.sync(() => kept.push(response))))
        const first = yield* fork(textOf(client))
        const second = yield* fork(textOf(client))
        yield* gate.arrived(1)
        yield* Fiber.interrupt(first)
        yield* gate.open
        yield* Deferred.await(gone)
        expect(yield* Fiber.join(second)).toBe("mine")
        expect(kept.length).toBe(2)
      }
    )
  })

  it.effect("A response that varies by a header goes to the callers that sent the same value", () =>
    withGate(
      (request) =>
        HttpServerResponse.text(request.headers["accept-language"] ?? "any", {
          headers: { vary: "Accept-Language, Accept-Encoding" }
        }),
      function*(plain, gate) {
        const client = Funnel.reduce(plain, Reducer.Reducer, { headers: ["authorization"] })
        const read = (language: string) =>
          textOf(HttpClient.mapRequest(client, HttpClientRequest.setHeader("accept-language", language)))
        const texts = yield* crowd(gate, [read("en"), read("de"), read("en"), textOf(client)])
        expect(texts).toEqual(["en", "de", "en", "any"])
        expect(gate.state.arrived).toBe(3)
      }
    ))

  it.effect("Range and conditional requests are distinguished, whatever list of headers is given", () =>
    withGate(
      ({ headers }) =>
        headers["if-none-match"] === "\"1\""
          ? HttpServerResponse.empty({ status: 304 })
          : headers["range"] === undefined
          ? HttpServerResponse.text("abcdef")
          : HttpServerResponse.text(headers["range"], { status: 206 }),
      function*(plain, gate) {
        const get = HttpClientRequest.get("/")
        const requests = [
          get,
          HttpClientRequest.setHeader(get, "range", "bytes=0-1"),
          HttpClientRequest.setHeader(get, "range", "bytes=2-3"),
          HttpClientRequest.setHeader(get, "if-none-match", "\"1\""),
          get
        ]
        const client = Funnel.reduce(plain, Reducer.Reducer, { headers: [] })
        const responses = yield* crowd(gate, requests.map(client.execute))
        expect(yield* Effect.forEach(responses, (response) => response.text))
          .toEqual(["abcdef", "bytes=0-1", "bytes=2-3", "", "abcdef"])
        expect(responses.map((response) => response.status)).toEqual([200, 206, 206, 304, 200])
        expect(gate.state.arrived).toBe(4)
      }
    ))

  /** The results of callers that send the same request with these services in their context. */
  const inContexts = (
    transport: Layer.Layer<Client>,
    contexts: ReadonlyArray<
      (effect: Effect.Effect<string, unknown, Reducer.Reducer>) => Effect.Effect<string, unknown, Reducer.Reducer>
    >
  ) =>
    withGate(({ headers }) => HttpServerResponse.text(headers["authorization"] ?? "nobody"), function*(plain, gate) {
      const client = reduced(plain)
      const texts = yield* crowd(gate, contexts.map((provide) => provide(textOf(client))))
      return { texts, sent: gate.state.arrived }
    }, transport)

  it.effect("Requests with another RequestInit, fetch, options or bounds in the context are each sent", () =>
    Effect.gen(function*() {
      const init = (init: RequestInit) => Effect.provideService(FetchHttpClient.RequestInit, init)
      const as = (user: string) => init({ headers: { authorization: user } })
      expect(yield* inContexts(FetchHttpClient.layer, [as("ada"), as("bob"), as("ada"), (_) => _])).toEqual({
        texts: ["ada", "bob", "ada", "nobody"],
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
      const { sent, texts } = yield* inContexts(FetchHttpClient.layer, options.map(init))
      expect([sent, ...texts.slice(4)]).toEqual([6, "ada", "bob"])
      const fetches: ReadonlyArray<typeof fetch> = ["ada", "bob"].map((user) => (url, init) =>
        fetch(url, { ...init, headers: { authorization: user } })
      )
      expect(
        yield* inContexts(FetchHttpClient.layer, fetches.map((_) => Effect.provideService(FetchHttpClient.Fetch, _)))
      ).toEqual({ texts: ["ada", "bob"], sent: 2 })
      const bound = (bytes: number) =>
        Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.fromInputUnsafe(bytes))
      expect((yield* inContexts(NodeHttpClient.layerUndici, [bound(100), bound(1_000), bound(100)])).sent).toBe(2)
      const timing = (blocking: boolean) => Effect.provideService(NodeHttpClient.UndiciOptions, { blocking })
      expect((yield* inContexts(NodeHttpClient.layerUndici, [true, false, true].map(timing))).sent).toBe(2)
    }))
})

describe("reduce, as each caller sees it", () => {
  type Reading = (response: HttpClientResponse.HttpClientResponse) => Effect.Effect<unknown, unknown>
  const readings: ReadonlyArray<Reading> = [
    (_) => _.text,
    (_) => _.json,
    (_) => _.urlParamsBody,
    (_) => _.arrayBuffer,
    (_) => _.upgrade,
    (_) => Effect.map(_.formData, (form) => [...form.entries()])
  ]
  const forms: ReadonlyArray<string> = ["a form", "parameters"]
  const form = new FormData()
  form.set("user", "ada")
  for (
    const [kind, body] of [
      ["JSON", Response.json({ n: 1 })],
      ["a form", new Response(form)],
      ["parameters", new Response(new URLSearchParams({ a: "1", b: "2" }))],
      ["no content type", new Response(new TextEncoder().encode("bytes"))]
    ] as const
  ) {
    it.effect(`A shared response answers as the original does, in every member: ${kind}`, () =>
      Effect.gen(function*() {
        const bytes = yield* Effect.promise(() => body.arrayBuffer())
        const request = HttpClientRequest.get("http://test/")
        // Each time a new one, since the body of an original can be read once.
        const original = () =>
          Object.defineProperties(
            HttpClientResponse.fromWeb(request, new Response(bytes, { status: 203, headers: body.headers })),
            { remoteAddress: { value: Option.some("10.0.0.1") }, upgrade: { value: Effect.succeed("connection") } }
          )
        const shared = yield* reduced(HttpClient.make(() => Effect.sync(original))).execute(request)
        for (const member of ["status", "url", "headers", "cookies", "remoteAddress"] as const) {
          expect(shared[member], member).toEqual(original()[member])
        }
        const read = (from: () => HttpClientResponse.HttpClientResponse) =>
          Effect.forEach(readings, (reading) => Effect.option(reading(from())))
        const answers = yield* read(() => shared)
        expect(answers).toEqual(yield* read(original))
        expect(answers.map(Option.isSome)).toEqual([true, kind === "JSON", true, true, true, forms.includes(kind)])
        expect(yield* Stream.mkString(Stream.decodeText(shared.stream))).toBe(yield* original().text)
        expect(shared.pipe((response) => response.status)).toBe(203)
        expect(shared.toJSON()).toEqual({
          _id: "effect-funnel/BufferedResponse",
          request: request.toJSON(),
          status: 203,
          headers: original().headers,
          remoteAddress: Option.some("10.0.0.1")
        })
      }).pipe(Effect.provide(Reducer.layer())))
  }

  for (const details of [{}, { cause: new Error("reset") }, { description: "no route" }]) {
    it.effect(`A shared error has the details of the original and no others: ${Object.keys(details).join() || "none"}`, () =>
      Effect.gen(function*() {
        const request = HttpClientRequest.get("http://test/")
        for (const reason of ["TransportError", "EncodeError", "InvalidUrlError"] as const) {
          const original = new HttpClientError.HttpClientError({
            reason: new HttpClientError[reason]({ request, ...details })
          })
          const error = yield* Effect.flip(reduced(HttpClient.make(() => Effect.fail(original))).execute(request))
          expect(error).not.toBe(original)
          expect(error.reason._tag).toBe(reason)
          expect([error.reason.cause, error.reason.description]).toEqual([
            original.reason.cause,
            original.reason.description
          ])
          expect(["cause", "description"].filter((_) => _ in error.reason))
            .toEqual(["cause", "description"].filter((_) => _ in original.reason))
        }
      }).pipe(Effect.provide(Reducer.layer())))
  }

  it.effect("A shared error and its response hold the caller's own request", () => {
    const gate = makeGate()
    return withServer(
      (request) =>
        request.url === "/broken"
          ? Effect.succeed(halves("be", Effect.andThen(gate.pass, Effect.die("broken")), ""))
          : Effect.as(gate.pass, HttpServerResponse.text("too hot", { status: 418 })),
      function*(plain) {
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
            (user) => Effect.flip(client.execute(HttpClientRequest.bearerToken(HttpClientRequest.get(url), user))),
            unbounded
          )
        const owners = (errors: ReadonlyArray<HttpClientError.HttpClientError>) =>
          errors.map(({ request, response }) => [request, response?.request].map((_) => _?.headers["authorization"]))
        const own = users.map((user) => [`Bearer ${user}`, `Bearer ${user}`])
        const tags = (errors: ReadonlyArray<HttpClientError.HttpClientError>) => errors.map((_) => _.reason._tag)

        const refused = yield* fork(fail("/"))
        yield* gate.arrived(1)
        const broken = yield* fork(fail("/broken"))
        yield* Deferred.await(begun)
        yield* gate.open
        const statuses = yield* Fiber.join(refused)
        expect(tags(statuses)).toEqual(Array(3).fill("StatusCodeError"))
        expect(owners(statuses)).toEqual(own)
        for (const { response } of statuses) {
          expect([response!.status, yield* response!.text, yield* response!.text]).toEqual([418, "too hot", "too hot"])
          expect(yield* Stream.mkString(Stream.decodeText(response!.stream))).toBe("too hot")
        }
        const breaks = yield* Fiber.join(broken)
        expect(tags(breaks)).toEqual(Array(3).fill("DecodeError"))
        expect(owners(breaks)).toEqual(own)
        for (const { response } of breaks) {
          expect(response!.status).toBe(200)
          const again = yield* Effect.flip(response!.text)
          expect(again.reason._tag).toBe("DecodeError")
          expect(again.request).toBe(response!.request)
        }
        expect(sent).toBe(2)

        const unreachable = yield* fail("/unreachable")
        expect(tags(unreachable)).toEqual(Array(3).fill("TransportError"))
        expect(unreachable.map((error) => error.reason.cause)).toEqual(Array(3).fill(expect.any(Error)))
        expect(owners(unreachable)).toEqual(users.map((user) => [`Bearer ${user}`, undefined]))
        expect(sent).toBe(3)
      }
    )
  })

  it.effect("A body that fails to decode reports the response's status, headers and URL, also with a scheduler", () =>
    withServer(
      () => Effect.succeed(HttpServerResponse.text("<html>", { status: 502, headers: { "x-id": "77" } })),
      function*(plain) {
        for (const client of [reduced(plain), Funnel.schedule(plain, Scheduler.Scheduler, { hold: "body" })]) {
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
      }
    ).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 }))))

  it.effect("An empty body is an empty stream", () =>
    withServer(() => Effect.succeed(HttpServerResponse.empty({ status: 200 })), function*(plain) {
      const response = yield* reduced(plain).get("/")
      expect(yield* Stream.runCollect(response.stream)).toEqual([])
    }))

  for (
    const [where, follow, transport] of [
      ["by fetch", (plain: Client) => reduced(plain), FetchHttpClient.layer],
      ["inside", (plain: Client) => reduced(HttpClient.followRedirects(plain)), NodeHttpClient.layerUndici],
      ["outside", (plain: Client) => HttpClient.followRedirects(reduced(plain)), NodeHttpClient.layerUndici]
    ] as const
  ) {
    it.effect(`A redirect is followed once for all callers, ${where}, and each caller sees the final URL`, () =>
      withGate(
        (request) => request.url === "/new" ? HttpServerResponse.text("moved") : HttpServerResponse.redirect("/new"),
        function*(plain, gate) {
          for (const response of yield* crowd(gate, times(3, follow(plain).get("/old")))) {
            expect([response.status, yield* response.text]).toEqual([200, "moved"])
            expect(response.url).toMatch(/\/new$/)
          }
          expect(gate.state.arrived).toBe(2)
        },
        transport
      ))
  }

  /** A server that answers in two halves, and a client that tells when the answer has begun. */
  const withHalves = <Eff extends Effect.Effect<any, any, any>, A>(
    use: (
      client: HttpClient.HttpClient.With<HttpClientError.HttpClientError, Reducer.Reducer>,
      answer: ReturnType<typeof makeAnswer>
    ) => Generator<Eff, A, never>
  ) => {
    const answer = makeAnswer()
    return withServer(
      () => Effect.sync(answer.send),
      (plain) => use(reduced(HttpClient.tap(plain, () => Deferred.done(answer.begun, Exit.void))), answer)
    )
  }
  const makeAnswer = () => {
    const rest = Latch.makeUnsafe(false)
    const gone = Deferred.makeUnsafe<void>()
    const answer = {
      rest,
      gone,
      begun: Deferred.makeUnsafe<void>(),
      sent: 0,
      send: () => {
        answer.sent++
        return halves("one ", Effect.onInterrupt(rest.await, () => Deferred.done(gone, Exit.void)), "two")
      }
    }
    return answer
  }

  it.effect("A caller that joins or leaves while the body arrives does not affect the others", () =>
    withHalves(function*(client, answer) {
      const first = yield* fork(textOf(client))
      yield* Deferred.await(answer.begun)
      const second = yield* fork(textOf(client))
      const third = yield* fork(textOf(client))
      yield* Fiber.interrupt(first)
      yield* Fiber.interrupt(third)
      expect(Cause.hasInterruptsOnly(yield* Effect.flip(Effect.sandbox(Fiber.join(first))))).toBe(true)
      yield* answer.rest.open
      expect(yield* Fiber.join(second)).toBe("one two")
      expect(answer.sent).toBe(1)
    }))

  it.effect("The response is aborted when the last caller leaves while its body arrives", () =>
    withHalves(function*(client, answer) {
      const callers = yield* Effect.forEach([1, 2, 3], () => fork(textOf(client)))
      yield* Deferred.await(answer.begun)
      yield* Effect.yieldNow
      yield* Fiber.interruptAll(callers)
      yield* Deferred.await(answer.gone)
      yield* answer.rest.open
      expect(yield* textOf(client)).toBe("one two")
      expect(answer.sent).toBe(2)
    }))

  it.effect("A scope around one caller's request does not abort the shared request", () =>
    withGate(ok, function*(plain, gate) {
      const client = reduced(plain)
      const first = yield* fork(Effect.scoped(textOf(HttpClient.withScope(client))))
      const second = yield* fork(textOf(client))
      yield* gate.arrived(1)
      yield* Fiber.interrupt(first)
      yield* gate.open
      expect(yield* Fiber.join(second)).toBe("ok")
      expect(gate.state.arrived).toBe(1)
    }))
})

describe("penalize", () => {
  class Api extends RateLimiter.Service<Api>()("test/http/Api", { limit: 100, window: "1 second", burst: 100 }) {}

  /** Expects the wait of the key's next call after a request with this answer. */
  const penalizes = (
    millis: number,
    status: number,
    retryAfter?: string,
    options?: Funnel.PenalizeOptions & { readonly ask?: string; readonly filtered?: boolean }
  ) =>
    withServer(
      () =>
        Effect.succeed(HttpServerResponse.empty({
          status,
          headers: retryAfter === undefined ? {} : { "retry-after": retryAfter }
        })),
      function*(plain) {
        const client = Funnel.penalize(
          options?.filtered === true ? HttpClient.filterStatusOk(plain) : plain,
          Api,
          options
        )
        const exit = yield* Effect.exit(client.get("/some/path"))
        expect(Exit.isSuccess(exit)).toBe(options?.filtered !== true || status < 400)
        const consume = Api.consume({ key: options?.ask, onExceeded: "fail" })
        const error = yield* Effect.option(Effect.flip(consume))
        expect(Option.isSome(error)).toBe(millis > 0)
        if (Option.isNone(error)) return
        assert(error.value.reason._tag === "RateLimitExceeded")
        expect(Duration.toMillis(error.value.reason.retryAfter)).toBe(millis)
      }
    ).pipe(Effect.provide(Api.layer))

  it.effect("delays the limiter for as long as a 429 or 503 asks, also after filterStatusOk", () =>
    Effect.gen(function*() {
      yield* penalizes(30_000, 429, "30")
      yield* penalizes(7_000, 503, "7")
      yield* penalizes(30_000, 429, "30", { filtered: true })
    }))

  it.effect("reads a date relative to the clock", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2030, 0, 1, 12, 0, 0))
      yield* penalizes(45_000, 429, "Tue, 01 Jan 2030 12:00:45 GMT")
      yield* penalizes(0, 429, "Tue, 01 Jan 2030 11:59:45 GMT")
    }))

  it.effect("does not penalize without Retry-After, with an invalid value, with 0, or for another status", () =>
    Effect.gen(function*() {
      for (const retryAfter of [undefined, "soon", "-5", "0"]) yield* penalizes(0, 429, retryAfter)
      for (const status of [500, 200]) yield* penalizes(0, status, "30")
    }))

  it.effect("penalizes only the key of the request", () =>
    Effect.gen(function*() {
      const key = (request: HttpClientRequest.HttpClientRequest) => new URL(request.url).pathname
      yield* penalizes(30_000, 429, "30", { key, ask: "/some/path" })
      yield* penalizes(0, 429, "30", { key, ask: "/other" })
      yield* penalizes(30_000, 429, "30", { key: "fixed", ask: "fixed" })
    }))

  it.effect("does not wait longer than atMost, 1 hour by default", () =>
    Effect.gen(function*() {
      yield* penalizes(60_000, 429, "1000000000", { atMost: "1 minute" })
      yield* penalizes(3_600_000, 429, "1000000000")
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
      function*(plain) {
        const client = plain.pipe(Funnel.penalize(Api), Funnel.schedule(Scheduler.Scheduler))
        expect((yield* client.get("/")).status).toBe(429)
        const second = yield* fork(client.get("/"))
        yield* TestClock.adjust("9999 millis")
        expect((yield* Scheduler.stats).queued).toBe(1)
        expect(asked).toBe(1)
        yield* TestClock.adjust("1 millis")
        expect((yield* Fiber.join(second)).status).toBe(200)
      }
    ).pipe(
      Effect.provide(Scheduler.layer({ concurrency: 10, rate: Api })),
      Effect.provide(Api.layer)
    )
  })

  const nobody = HttpClient.make(() => Effect.never)

  it.effect("a Retry-After of any number of digits ends, also without an atMost", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second" })
      const headers = { "retry-after": "9".repeat(400) }
      const client = HttpClient.make((request) =>
        Effect.succeed(HttpClientResponse.fromWeb(request, new Response("", { status: 429, headers })))
      )
      yield* client.pipe(Funnel.penalize(limiter, { atMost: Infinity })).get("http://a.test/")
      expect(Duration.isFinite((yield* limiter.peek()).retryAfter)).toBe(true)
      yield* limiter.penalize({ key: "largest", for: Number.MAX_VALUE })
      expect(Duration.isFinite((yield* limiter.peek({ key: "largest" })).retryAfter)).toBe(true)
    }))

  it("refuses an atMost that is not a positive duration", () => {
    for (const atMost of [0, -1, Number.NaN]) {
      expect(() => Funnel.penalize(nobody, Api, { atMost })).toThrow(RangeError)
      expect(() => Funnel.penalize(nobody, Api, { atMost })).toThrow(
        `http.penalize: atMost must be a duration > 0, got ${atMost}`
      )
    }
  })

  it("refuses invalid numbers when the client is made", () => {
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
