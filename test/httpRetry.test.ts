import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, expect, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Predicate, Schedule } from "effect"
import { Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import * as RetryBudget from "effect-funnel/RetryBudget"
import { HttpClient, HttpClientError, HttpClientResponse, HttpServerResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { fork, settle } from "./support/fibers.ts"
import { withServer } from "./support/httpServer.ts"
import { live } from "./support/live.ts"

class Retries extends RetryBudget.Service<Retries>()("test/http/Retries", { tokens: 10, ratio: 0.1 }) {}

const failing = (reason: "TransportError" | "InvalidUrlError"): HttpClient.HttpClient =>
  HttpClient.make((request) =>
    Effect.fail(
      new HttpClientError.HttpClientError({
        reason: reason === "TransportError"
          ? new HttpClientError.TransportError({ request })
          : new HttpClientError.InvalidUrlError({ request })
      })
    )
  )

/** A client that answers with these statuses, the last one for ever, and counts. */
const answering = (statuses: ReadonlyArray<number>, headers: Record<string, string> = {}) => {
  const count = { sent: 0 }
  const client = HttpClient.make((request) =>
    Effect.sync(() => {
      const status = statuses[Math.min(count.sent++, statuses.length - 1)]!
      return HttpClientResponse.fromWeb(request, new Response(null, { status, headers }))
    })
  )
  return Object.assign(count, { client })
}

const statusOf = <E, R>(client: HttpClient.HttpClient.With<E, R>, url = "http://backend.test/") =>
  Effect.map(client.get(url), (response) => response.status)

const tokens = Effect.map(Retries.stats, (stats) => stats.tokens)

describe("retryTransient", () => {
  it.effect("sends a request again after each transient status, and gives ratio back for the success", () =>
    Effect.gen(function*() {
      for (const status of [408, 429, 500, 502, 503, 504]) {
        const backend = answering([status, 200])
        expect(yield* statusOf(backend.client.pipe(Funnel.retryTransient(Retries)))).toBe(200)
        expect(backend.sent).toBe(2)
        yield* Effect.repeat(statusOf(answering([200]).client.pipe(Funnel.retryTransient(Retries))), { times: 10 })
        expect(yield* tokens).toBe(10)
      }
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("returns another status at once, which is a success for the budget", () =>
    Effect.gen(function*() {
      yield* statusOf(answering([503, 200]).client.pipe(Funnel.retryTransient(Retries)))
      const backend = answering([404])
      expect(yield* statusOf(backend.client.pipe(Funnel.retryTransient(Retries)))).toBe(404)
      expect(backend.sent).toBe(1)
      expect(yield* tokens).toBeCloseTo(9.2, 5)
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("returns the last response when the budget is out, for all callers together, and when times are out", () =>
    Effect.gen(function*() {
      const backend = answering([503])
      const client = backend.client.pipe(Funnel.retryTransient(Retries, { times: 3 }))
      expect(yield* statusOf(client)).toBe(503)
      expect(backend.sent).toBe(4)
      expect(yield* Effect.all(Array.from({ length: 100 }, () => statusOf(client)))).toEqual(Array(100).fill(503))
      expect(backend.sent).toBe(104)
      expect(yield* Retries.stats).toMatchObject({ tokens: 0, denied: 100 })
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("returns the failure when the budget is out, and takes a handle", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 2 })
      let sent = 0
      const client = failing("TransportError").pipe(
        HttpClient.transform((effect) => Effect.suspend(() => (sent++, effect))),
        Funnel.retryTransient(budget)
      )
      const error = yield* Effect.flip(statusOf(client))
      expect(error.reason._tag).toBe("TransportError")
      // The first failure leaves half of the tokens, which is not more than half.
      expect(sent).toBe(1)
    }))

  it.effect("a failure that is not transient is returned at once and costs nothing, unless while names it", () =>
    Effect.gen(function*() {
      let sent = 0
      const backend = failing("InvalidUrlError").pipe(
        HttpClient.transform((effect) => Effect.suspend(() => (sent++, effect)))
      )
      yield* Effect.flip(statusOf(backend.pipe(Funnel.retryTransient(Retries))))
      expect([sent, yield* tokens]).toEqual([1, 10])
      const isWorth = (error: HttpClientError.HttpClientError) => error.reason._tag === "InvalidUrlError"
      yield* Effect.flip(statusOf(backend.pipe(Funnel.retryTransient(Retries, { times: 2, while: isWorth }))))
      expect([sent, yield* tokens]).toEqual([4, 7])
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("a failure of another kind is repeated where while names it, whatever it is and has", () =>
    Effect.gen(function*() {
      for (const failure of [undefined, null, "away", { response: "none" }]) {
        let sent = 0
        const client = failing("TransportError").pipe(
          HttpClient.transform(() => Effect.suspend(() => (sent++, Effect.fail(failure)))),
          Funnel.retryTransient(Retries, { times: 2, while: () => true })
        )
        expect(yield* Effect.exit(client.get("http://backend.test/"))).toEqual(Exit.fail(failure))
        expect(sent).toBe(3)
      }
    }).pipe(Effect.provide(Retries.layerNoop)))

  it.effect("retryOn leaves out the responses or the errors", () =>
    Effect.gen(function*() {
      const backend = answering([503, 200])
      expect(yield* statusOf(backend.client.pipe(Funnel.retryTransient(Retries, { retryOn: "errors-only" })))).toBe(503)
      const filtered = answering([503, 200])
      const strict = HttpClient.filterStatusOk(filtered.client)
      const error = yield* Effect.flip(
        statusOf(strict.pipe(Funnel.retryTransient(Retries, { retryOn: "response-only" })))
      )
      expect(error.reason._tag).toBe("StatusCodeError")
      expect([backend.sent, filtered.sent]).toEqual([1, 1])
      expect(
        yield* statusOf(HttpClient.filterStatusOk(answering([503, 200]).client).pipe(Funnel.retryTransient(Retries)))
      )
        .toBe(200)
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("waits as long as Retry-After says, and no shorter than the schedule", () =>
    withServer(
      () => Effect.sync(() => HttpServerResponse.empty({ status: 503, headers: { "retry-after": "2" } })),
      function*(plain) {
        let sent = 0
        const counted = HttpClient.tap(plain, () => Effect.sync(() => sent++))
        const comesBackAfter = function*(millis: number, request: Effect.Effect<unknown, unknown, Retries>) {
          sent = 0
          const call = yield* fork(request)
          yield* Effect.repeat(Effect.promise(() => new Promise((resolve) => setImmediate(resolve))), {
            until: () => sent > 0
          })
          yield* settle
          yield* TestClock.adjust(millis - 1)
          yield* settle
          expect(sent).toBe(1)
          yield* TestClock.adjust(1)
          yield* Fiber.join(call)
          expect(sent).toBe(2)
        }
        const retried = <E, R>(client: HttpClient.HttpClient.With<E, R>, schedule?: Schedule.Schedule<unknown>) =>
          Funnel.retryTransient(client, Retries, { times: 1, schedule })
        yield* comesBackAfter(2000, retried(counted).get("/"))
        yield* comesBackAfter(5000, retried(counted, Schedule.spaced("5 seconds")).get("/"))
        const strict = HttpClient.filterStatusOk(counted)
        yield* comesBackAfter(2000, Effect.exit(retried(strict, Schedule.spaced("1 millis")).get("/")))
      }
    ).pipe(Effect.provide(Retries.layerNoop)))

  it.effect("leaves no response unread that it sends again for: a short body is read, a long or slow one is cancelled", () =>
    Effect.gen(function*() {
      const gone: Array<string> = []
      const body = (name: string, chunks: number, ends: boolean) => {
        let sent = 0
        return new ReadableStream<Uint8Array>({
          pull: (controller) => {
            if (sent++ < chunks) return controller.enqueue(new Uint8Array(1024))
            if (!ends) return new Promise<void>(() => {})
            gone.push(`${name} read`)
            controller.close()
          },
          cancel: () => void gone.push(`${name} cancelled`)
        })
      }
      const bodies = [() => body("short", 3, true), () => body("long", 1e6, true), () => body("slow", 3, false)]
      let sent = 0
      const backend = HttpClient.make((request) =>
        Effect.sync(() =>
          HttpClientResponse.fromWeb(request, new Response(bodies[sent++]?.() ?? "last", { status: 503 }))
        )
      )
      for (const strict of [backend, HttpClient.filterStatusOk(backend)]) {
        sent = 0
        gone.length = 0
        const schedule = Schedule.spaced("1 second")
        const client = Funnel.retryTransient(strict, Retries, { times: 3, schedule })
        const call = yield* fork(Effect.exit(client.get("http://backend.test/")))
        yield* TestClock.adjust("3 seconds")
        const exit = yield* Fiber.join(call)
        expect(gone).toEqual(["short read", "long cancelled", "slow cancelled"])
        // The last one is the caller's.
        const last = Exit.isSuccess(exit) ? exit.value : Cause.squash(exit.cause) as HttpClientError.HttpClientError
        expect(yield* Predicate.hasProperty(last, "response") ? last.response!.text : last.text).toBe("last")
      }
    }).pipe(Effect.provide(Retries.layerNoop)))

  it.effect("leaves no response unread where its schedule fails", () =>
    Effect.gen(function*() {
      let cancelled = 0
      const backend = HttpClient.make((request) =>
        Effect.sync(() =>
          HttpClientResponse.fromWeb(
            request,
            new Response(new ReadableStream({ cancel: () => void cancelled++ }), { status: 503 })
          )
        )
      )
      const failing = Schedule.addDelay(Schedule.forever, () => Effect.fail("no delay" as const))
      for (const client of [backend, HttpClient.filterStatusOk(backend)]) {
        const retried = Funnel.retryTransient(client, Retries, { schedule: failing })
        const call = yield* fork(Effect.flip(retried.get("http://backend.test/")))
        yield* TestClock.adjust("1 second")
        expect(yield* Fiber.join(call)).toBe("no delay")
      }
      expect(cancelled).toBe(2)
    }).pipe(Effect.provide(Retries.layerNoop)))

  it.effect("a response that no attempt follows is the caller's with its body, whenever it is read", () =>
    Effect.gen(function*() {
      const answer = (status: number) =>
        HttpClient.make((request) =>
          Effect.sync(() => HttpClientResponse.fromWeb(request, new Response(`body of ${status}`, { status })))
        )
      const drained = yield* RetryBudget.make({ tokens: 1 })
      const late = <E, R>(response: Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>) =>
        Effect.flatMap(response, (response) => Effect.andThen(settle, response.text))
      const failure = (response: Effect.Effect<unknown, HttpClientError.HttpClientError, Retries>) =>
        Effect.map(Effect.flip(response), (error) => error.response!)
      const ended = Schedule.upTo(Schedule.forever, { times: 0 })
      for (
        const client of [
          answer(503).pipe(Funnel.retryTransient(drained)),
          answer(503).pipe(Funnel.retryTransient(Retries, { times: 0 })),
          answer(503).pipe(Funnel.retryTransient(Retries, { schedule: ended })),
          answer(503).pipe(Funnel.retryTransient(Retries, { times: 2 }))
        ]
      ) {
        expect(yield* late(client.get("http://backend.test/"))).toBe("body of 503")
      }
      // Of a failure, too, whether it is transient or not.
      for (const status of [404, 503]) {
        const client = HttpClient.filterStatusOk(answer(status)).pipe(Funnel.retryTransient(Retries, { times: 1 }))
        expect(yield* late(failure(client.get("http://backend.test/")))).toBe(`body of ${status}`)
      }
    }).pipe(Effect.provide(Retries.layerNoop)))

  live("a retry does not wait for the connection of the response before", function*() {
    let asked = 0
    const server = createServer((_, response) => {
      if (asked++ > 0) response.end("answer")
      else response.writeHead(503).end(Buffer.alloc(1_000_000))
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () => Effect.sync(() => server.close().closeAllConnections())
    )
    const context = yield* Layer.build(NodeHttpClient.layerUndiciOptions({ connections: 1 }))
    const retried = Funnel.retryTransient(Context.get(context, HttpClient.HttpClient), yield* RetryBudget.make(), {
      times: 1
    })
    const { port } = server.address() as AddressInfo
    expect(yield* Effect.timeout(statusOf(retried, `http://127.0.0.1:${port}/`), "5 seconds")).toBe(200)
  })

  it.effect("the schedule sees the responses, and may end the retries", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const schedule = Schedule.while(Schedule.forever, ({ attempt, input }) => {
        seen.push(Predicate.hasProperty(input, "status") && input.status)
        return attempt < 3
      })
      const backend = answering([503, 502, 500])
      expect(yield* statusOf(backend.client.pipe(Funnel.retryTransient(Retries, { schedule })))).toBe(500)
      expect(seen).toEqual([503, 502, 500])
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("fails with what the schedule fails with", () =>
    Effect.gen(function*() {
      const schedule = Schedule.fromStep(Effect.succeed(() => Effect.fail("no more" as const)))
      const client = answering([503]).client.pipe(Funnel.retryTransient(Retries, { schedule }))
      expect(yield* Effect.flip(statusOf(client))).toBe("no more")
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("interrupted while it waits for its next attempt, a request is not sent again", () =>
    Effect.gen(function*() {
      const backend = answering([503, 200], { "retry-after": "30" })
      const call = yield* fork(statusOf(backend.client.pipe(Funnel.retryTransient(Retries))))
      yield* settle
      yield* Fiber.interrupt(call)
      yield* TestClock.adjust("1 minute")
      expect(backend.sent).toBe(1)
      const exit = yield* Fiber.await(call)
      assert(Exit.isFailure(exit))
      expect(Cause.hasInterruptsOnly(exit.cause)).toBe(true)
    }).pipe(Effect.provide(Retries.layer)))

  it.effect("behind schedule each attempt queues anew, and a refusal of the scheduler is not retried", () =>
    Effect.gen(function*() {
      const backend = answering([503, 503, 200])
      const client = backend.client.pipe(
        Funnel.schedule(Scheduler.Scheduler, { maxWait: 0 }),
        Funnel.retryTransient(Retries)
      )
      expect(yield* statusOf(client)).toBe(200)
      const before = yield* tokens
      yield* fork(Scheduler.schedule(Effect.never))
      expect((yield* Effect.flip(statusOf(client)))._tag).toBe("SchedulerError")
      expect(backend.sent).toBe(3)
      expect(yield* tokens).toBe(before)
    }).pipe(Effect.provide([Retries.layer, Scheduler.layer({ concurrency: 1 })])))

  it("refuses invalid options when the client is made", () => {
    const nobody = HttpClient.make(() => Effect.never)
    for (const times of [-1, 1.5, Number.NaN]) {
      expect(() => nobody.pipe(Funnel.retryTransient(Retries, { times }))).toThrow(
        new RangeError(`http.retryTransient: times must be an integer >= 0, got ${times}`)
      )
    }
    // Such a value comes from JavaScript or from a configuration.
    expect(() => Funnel.retryTransient(nobody, Retries, { retryOn: JSON.parse(`"always"`) })).toThrow(
      new RangeError(
        `http.retryTransient: retryOn must be "errors-only", "response-only", "errors-and-responses", got "always"`
      )
    )
  })
})
