/** The functions for HTTP under every schedule: whatever fiber yields or is interrupted, and wherever. */
import { describe, expect } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, Schedule } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import * as RetryBudget from "effect-funnel/RetryBudget"
import { HttpClient, HttpClientResponse, HttpServerRequest, HttpServerResponse } from "effect/http"
import { forkScoped as fork, turns, unbounded as both } from "./support/fibers.ts"
import { sweep } from "./support/sweep.ts"

/** A backend that takes a turn for each answer and counts those inside. */
const makeBackend = (statusOf: (n: number) => number, headers: Record<string, string> = {}) => {
  const backend = { sent: 0, inside: 0, most: 0 }
  const client = HttpClient.make((request) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        backend.most = Math.max(backend.most, ++backend.inside)
        return statusOf(backend.sent++)
      }),
      (status) =>
        Effect.as(Effect.yieldNow, HttpClientResponse.fromWeb(request, new Response(null, { status, headers }))),
      () => Effect.sync(() => void backend.inside--)
    )
  )
  return { backend, client }
}

const inOrder = (statuses: ReadonlyArray<number>) => statuses.toSorted((a, b) => a - b)

/** The statuses of the requests, in their own order: which request gets which depends on the schedule. */
const statuses = <E, R>(client: HttpClient.HttpClient.With<E, R>, urls: ReadonlyArray<string>) =>
  Effect.map(
    Effect.forEach(urls, (url) => Effect.map(client.get(`http://${url}/`), (response) => response.status), both),
    inOrder
  )

describe("clients", () => {
  class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", {
    lookup: (_: string) => ({ concurrency: 1, rate: { limit: 1000, window: "1 second", burst: 1000 } })
  }) {}

  sweep("schedule with a Keyed", {
    make: Effect.gen(function*() {
      const hosts = yield* Effect.map(Layer.build(Hosts.layer), (context) => Effect.provideContext(Hosts, context))
      return { ...makeBackend(() => 200), hosts: yield* hosts }
    }),
    subject: ({ client, hosts }) =>
      statuses(client.pipe(Funnel.penalize(hosts), Funnel.schedule(hosts)), ["a", "b", "a", "a"]),
    expected: [200, 200, 200, 200],
    check: ({ backend, client, hosts }) =>
      Effect.gen(function*() {
        yield* turns
        expect(backend.inside).toBe(0)
        expect(backend.most).toBeLessThanOrEqual(2)
        expect(yield* statuses(Funnel.schedule(client, hosts), ["a"])).toEqual([200])
        expect(yield* hosts.get("a").stats).toMatchObject({ running: 0, queued: 0 })
      })
  })

  sweep("penalize with a Keyed, where a request has to wait for the end of the penalty", {
    make: Effect.gen(function*() {
      const hosts = yield* Effect.map(Layer.build(Hosts.layer), (context) => Effect.provideContext(Hosts, context))
      return { ...makeBackend((n) => n === 0 ? 429 : 200, { "retry-after": "1" }), hosts: yield* hosts }
    }),
    subject: ({ client, hosts }) =>
      statuses(client.pipe(Funnel.penalize(hosts), Funnel.schedule(hosts)), ["a", "a", "b"]),
    expected: [200, 200, 429],
    check: ({ backend, hosts }) =>
      Effect.gen(function*() {
        yield* turns
        expect(backend.inside).toBe(0)
        expect(yield* hosts.get("a").stats).toMatchObject({ running: 0, queued: 0 })
      })
  })

  sweep("retryTransient", {
    make: Effect.gen(function*() {
      const budget = yield* RetryBudget.make()
      return { ...makeBackend((n) => n < 2 ? 503 : 200, { "retry-after": "1" }), budget }
    }),
    subject: ({ budget, client }) =>
      statuses(client.pipe(Funnel.retryTransient(budget, { schedule: Schedule.spaced("10 millis") })), ["a"]),
    expected: [200],
    check: ({ backend, budget }) =>
      Effect.gen(function*() {
        yield* turns
        expect(backend.inside).toBe(0)
        expect(backend.sent).toBeLessThanOrEqual(3)
        const { tokens } = yield* budget.stats
        expect(tokens).toBeGreaterThanOrEqual(8)
      })
  })
})

describe("servers", () => {
  const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
  const makeApp = () => {
    const state = { inside: 0, most: 0 }
    const app = Effect.acquireUseRelease(
      Effect.sync(() => void (state.most = Math.max(state.most, ++state.inside))),
      () => Effect.as(Effect.yieldNow, HttpServerResponse.empty({ status: 200 })),
      () => Effect.sync(() => void state.inside--)
    )
    return { app, state }
  }
  const asked = <E, R>(app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>, n: number) =>
    Effect.all(Array.from({ length: n }, () => Effect.map(app, (response) => response.status)), both).pipe(
      Effect.map(inOrder),
      Effect.provideService(HttpServerRequest.HttpServerRequest, request)
    )

  for (const region of ["interruptible", "uninterruptible"] as const) {
    sweep(`limit by a scheduler, ${region}`, {
      make: Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1 })
        return { ...makeApp(), scheduler }
      }),
      subject: ({ app, scheduler }) => asked(Effect[region](Funnel.limit(scheduler)(app)), 3),
      expected: [200, 200, 200],
      check: ({ app, scheduler, state }) =>
        Effect.gen(function*() {
          yield* turns
          expect(state).toEqual({ inside: 0, most: Math.min(1, state.most) })
          expect(yield* scheduler.stats).toMatchObject({ running: 0, queued: 0 })
          expect(yield* asked(Funnel.limit(scheduler)(app), 1)).toEqual([200])
        })
    })
  }

  sweep("limit by a scheduler that closes while requests wait", {
    make: Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const holds = Latch.makeUnsafe(false)
      const gate = yield* fork(scheduler.schedule(Effect.andThen(holds.open, Effect.never)))
      yield* holds.await
      return { ...makeApp(), scheduler, gate }
    }),
    subject: ({ app, scheduler }) => asked(Funnel.limit(scheduler)(app), 2),
    meanwhile: ({ scheduler }) => scheduler.drain({ timeout: "1 second" }),
    expected: [503, 503],
    check: ({ gate, state }) =>
      Effect.gen(function*() {
        yield* Fiber.await(gate)
        expect(state.most).toBe(0)
      })
  })

  sweep("limit by a limiter", {
    make: Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 hour", burst: 2 })
      return { ...makeApp(), limiter }
    }),
    subject: ({ app, limiter }) => asked(Funnel.limit(limiter)(app), 3),
    expected: [200, 200, 429],
    check: ({ state }) =>
      Effect.gen(function*() {
        yield* turns
        expect(state.inside).toBe(0)
        expect(state.most).toBeLessThanOrEqual(2)
      })
  })
})
