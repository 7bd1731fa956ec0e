/** What a client has of a scheduler besides its queue: keys by request, the options of jobs, penalties. */
import { assert, describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Latch } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpClient, HttpClientRequest, HttpClientResponse, HttpServerResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { fork, settle, unbounded } from "./support/fibers.ts"
import { withServer } from "./support/httpServer.ts"

class Hosts extends Scheduler.Keyed<Hosts>()("test/http/Hosts", {
  lookup: (_: string) => ({ concurrency: 1 })
}) {}

/** A backend that answers when its gate is open, and lists the paths that it was asked for. */
const makeBackend = () => {
  const gate = Latch.makeUnsafe(false)
  const asked: Array<string> = []
  const client = HttpClient.make((request, url) =>
    Effect.as(
      Effect.andThen(Effect.sync(() => asked.push(url.href)), gate.await),
      HttpClientResponse.fromWeb(request, new Response(url.href))
    )
  )
  return { gate, asked, client }
}

const statusOf = <E, R>(client: HttpClient.HttpClient.With<E, R>, url: string) =>
  Effect.map(client.get(url), (response) => response.status)

/** The reason for which a scheduler refuses a request. */
const refusalOf = <R, E>(effect: Effect.Effect<unknown, E | Scheduler.SchedulerError, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert(error instanceof Scheduler.SchedulerError)
    return error.reason
  })

describe("schedule with a Keyed", () => {
  for (const given of ["tag", "handle"] as const) {
    it.effect(`queues each request at the scheduler of its host with the port, by the ${given}`, () =>
      Effect.gen(function*() {
        const { asked, client, gate } = makeBackend()
        const hosts = given === "tag" ? Hosts : yield* Hosts
        const scheduled = client.pipe(Funnel.schedule(hosts))
        const urls = ["http://a.test/1", "http://a.test/2", "http://a.test:81/", "http://b.test/?q"]
        const all = yield* fork(Effect.all(urls.map((url) => statusOf(scheduled, url)), unbounded))
        expect(asked).toEqual(["http://a.test/1", "http://a.test:81/", "http://b.test/?q"])
        expect(yield* Hosts.size).toBe(3)
        yield* gate.open
        expect(yield* Fiber.join(all)).toEqual([200, 200, 200, 200])
        expect(yield* Hosts.size).toBe(0)
      }).pipe(Effect.provide(Hosts.layer)))
  }

  it.effect("takes the key from the request as it is sent", () =>
    Effect.gen(function*() {
      const { asked, client, gate } = makeBackend()
      const key = (request: HttpClientRequest.HttpClientRequest) => request.headers["x-tenant"] ?? "nobody"
      const scheduled = Funnel.schedule(client, Hosts, { key })
      const as = (tenant: string) =>
        statusOf(HttpClient.mapRequest(scheduled, HttpClientRequest.setHeader("x-tenant", tenant)), "http://a.test/")
      const all = yield* fork(Effect.all([as("ada"), as("bob"), as("ada")], unbounded))
      expect(asked.length).toBe(2)
      yield* gate.open
      expect(yield* Fiber.join(all)).toEqual([200, 200, 200])
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("a key that throws is a defect of its own request, and holds nothing", () =>
    Effect.gen(function*() {
      const { client, gate } = makeBackend()
      yield* gate.open
      const key = (request: HttpClientRequest.HttpClientRequest) => {
        if (request.url.endsWith("bad")) throw new Error("bad key")
        return "key"
      }
      const scheduled = Funnel.schedule(client, Hosts, { key })
      expect(Exit.hasDies(yield* Effect.exit(scheduled.get("http://a.test/bad")))).toBe(true)
      expect(yield* statusOf(scheduled, "http://a.test/good")).toBe(200)
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))
})

describe("schedule with the options of a job", () => {
  class One extends Scheduler.Service<One>()("test/http/One", { concurrency: 1 }) {}

  it.effect("refuses a request that waits longer than maxWait, which may depend on the request", () =>
    Effect.gen(function*() {
      const { client, gate } = makeBackend()
      const scheduled = client.pipe(
        Funnel.schedule(One, { maxWait: (request) => request.url.endsWith("slow") ? "10 seconds" : "500 millis" })
      )
      const first = yield* fork(statusOf(scheduled, "http://a.test/"))
      const fast = yield* fork(refusalOf(scheduled.get("http://a.test/fast")))
      const slow = yield* fork(statusOf(scheduled, "http://a.test/slow"))
      yield* TestClock.adjust("500 millis")
      expect(yield* Fiber.join(fast)).toMatchObject({ _tag: "WaitExceeded" })
      yield* gate.open
      expect(yield* Effect.all([Fiber.join(first), Fiber.join(slow)])).toEqual([200, 200])
    }).pipe(Effect.provide(One.layer)))

  it.effect("gives shares turns by the request", () =>
    Effect.gen(function*() {
      const { asked, client, gate } = makeBackend()
      const scheduled = client.pipe(
        Funnel.schedule(One, { share: (request) => request.headers["x-tenant"] ?? "nobody" })
      )
      const ask = (tenant: string, n: number) =>
        scheduled.get(`http://a.test/${tenant}${n}`, { headers: { "x-tenant": tenant } })
      const all = yield* fork(Effect.all([ask("a", 1), ask("a", 2), ask("a", 3), ask("b", 1)], unbounded))
      yield* gate.open
      yield* Fiber.join(all)
      expect(asked.map((url) => url.slice("http://a.test/".length))).toEqual(["a1", "a2", "b1", "a3"])
    }).pipe(Effect.provide(One.layer)))

  it("refuses an invalid maxWait or share when the client is made", () => {
    const nobody = HttpClient.make(() => Effect.never)
    expect(() => Funnel.schedule(nobody, One, { maxWait: -1 })).toThrow(
      new RangeError("http.schedule: maxWait must be a finite duration >= 0, got -1")
    )
    expect(() => Funnel.schedule(nobody, One, { share: { key: "a", weight: 0 } })).toThrow(
      new RangeError("http.schedule: share.weight must be an integer >= 1, got 0")
    )
  })
})

describe("penalize with a scheduler", () => {
  /** Answers the first request with 429 and `Retry-After: 1`, when it is told to, and all others with 200. */
  const answers = () => {
    const begun = Deferred.makeUnsafe<void>()
    const answer = Latch.makeUnsafe(false)
    let sent = 0
    return {
      answer,
      begun: Deferred.await(begun),
      get sent() {
        return sent
      },
      handler: () =>
        Effect.suspend(() => {
          if (++sent > 1) return Effect.succeed(HttpServerResponse.text("ok"))
          Deferred.doneUnsafe(begun, Exit.void)
          return Effect.as(answer.await, HttpServerResponse.empty({ status: 429, headers: { "retry-after": "1" } }))
        })
    }
  }

  const limits = { concurrency: 1, maxWait: "500 millis" } as const
  class Plain extends Scheduler.Service<Plain>()("test/http/Plain", limits) {}
  class Api extends RateLimiter.Service<Api>()("test/http/Api", { limit: 1000, window: "1 second", burst: 1000 }) {}
  class Paced extends Scheduler.Service<Paced>()("test/http/Paced", { ...limits, rate: Api }) {}
  class Keyed extends Scheduler.Keyed<Keyed>()("test/http/Keyed", {
    lookup: (_: string) => ({ ...limits, rate: { limit: 1000, window: "1 second", burst: 1000 } })
  }) {}

  const cases = {
    "a scheduler": (client: HttpClient.HttpClient) =>
      Effect.map(Plain, (_) => client.pipe(Funnel.penalize(_), Funnel.schedule(_))),
    "a scheduler with a rate": (client: HttpClient.HttpClient) =>
      Effect.map(Paced, (_) => client.pipe(Funnel.penalize(_), Funnel.schedule(_))),
    "a scheduler a host": (client: HttpClient.HttpClient) =>
      Effect.map(Keyed, (_) => client.pipe(Funnel.penalize(_), Funnel.schedule(_)))
  }
  for (const [name, make] of Object.entries(cases)) {
    it.effect(`one 429 refuses at once all that cannot wait for its end, those that wait and newcomers, and serves the others: ${name}`, () => {
      const server = answers()
      return withServer(server.handler, function*(plain) {
        const client = yield* make(plain)
        const first = yield* fork(statusOf(client, "/"))
        yield* server.begun
        const waiting = yield* fork(Effect.all(Array.from({ length: 80 }, () => refusalOf(client.get("/"))), unbounded))
        yield* settle
        yield* server.answer.open
        // The clock stands still: nobody has waited.
        expect(yield* Fiber.join(first)).toBe(429)
        const tags = (yield* Fiber.join(waiting)).map((reason) => reason._tag)
        expect(tags).toEqual(Array(80).fill("WaitExceeded"))
        for (let n = 0; n < 3; n++) expect(yield* refusalOf(client.get("/"))).toMatchObject({ _tag: "WaitExceeded" })
        expect(server.sent).toBe(1)

        yield* TestClock.adjust("499 millis")
        expect(yield* refusalOf(client.get("/"))).toMatchObject({ _tag: "WaitExceeded" })
        yield* TestClock.adjust("1 millis")
        const last = yield* fork(statusOf(client, "/"))
        yield* settle
        expect(server.sent).toBe(1)
        yield* TestClock.adjust("500 millis")
        expect(yield* Fiber.join(last)).toBe(200)
        expect(server.sent).toBe(2)
      }).pipe(Effect.provide([Plain.layer, Paced.layer, Keyed.layer]), Effect.provide(Api.layer))
    })
  }

  it.effect("holds back the scheduler of the request's host, or of its key, and no other", () =>
    Effect.gen(function*() {
      const refusing = HttpClient.make((request) =>
        Effect.succeed(
          HttpClientResponse.fromWeb(request, new Response("", { status: 503, headers: { "retry-after": "30" } }))
        )
      )
      const waits = (key: string) =>
        Hosts.get(key).pipe(
          Effect.flatMap((scheduler) => scheduler.schedule(Effect.void, { maxWait: 0 })),
          Effect.match({ onFailure: () => true, onSuccess: () => false })
        )
      yield* Funnel.penalize(refusing, Hosts).get("http://a.test/")
      yield* refusing.pipe(Funnel.penalize(Hosts, { key: (request) => request.method })).get("http://b.test/")
      expect(yield* Effect.all(["a.test", "b.test", "GET"].map(waits))).toEqual([true, false, true])
      yield* TestClock.adjust("30 seconds")
      expect(yield* Effect.all(["a.test", "GET"].map(waits))).toEqual([false, false])
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))
})
