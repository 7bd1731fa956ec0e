import { Effect } from "effect"
import type { Layer, Schedule, Scope } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import * as RetryBudget from "effect-funnel/RetryBudget"
import { HttpClient, HttpRouter } from "effect/http"
import type { HttpClientError, HttpServerRequest, HttpServerResponse } from "effect/http"
import { describe, expect, it } from "tstyche"

class Jobs extends Scheduler.Service<Jobs>()("test/Jobs", { concurrency: 1 }) {}
class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 1, window: 1 }) {}
class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
class Tenants extends Scheduler.Keyed<Tenants>()("test/Tenants", { lookup: (_: number) => ({ concurrency: 1 }) }) {}
class Retries extends RetryBudget.Service<Retries>()("test/Retries") {}
class Runs extends Reducer.Service<Runs>()("test/Runs") {}

declare const plain: HttpClient.HttpClient
declare const narrow: HttpClient.HttpClient.With<"E", "R">
declare const unknownRequirements: HttpClient.HttpClient.With<"E", unknown>
declare const scoped: HttpClient.HttpClient.With<"E", Scope.Scope>

declare const jobs: Scheduler.Scheduler
declare const hosts: Scheduler.KeyedScheduler<string>
declare const api: RateLimiter.RateLimiter
declare const retries: RetryBudget.RetryBudget
declare const schedule: Schedule.Schedule<number, unknown, "ES", "RS">
declare const app: Effect.Effect<HttpServerResponse.HttpServerResponse, "E", "R">

type App<R> = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  "E",
  "R" | R | HttpServerRequest.HttpServerRequest
>
type Failed = HttpClientError.HttpClientError
type With<E, R = never> = HttpClient.HttpClient.With<E, R>

describe("schedule", () => {
  it("adds the refusal and the tag, and the failure of reading a body where one is read", () => {
    expect(plain.pipe(Funnel.schedule(Jobs))).type.toBe<With<Failed | Scheduler.SchedulerError, Jobs>>()
    expect(narrow.pipe(Funnel.schedule(Jobs))).type.toBe<With<"E" | Scheduler.SchedulerError, "R" | Jobs>>()
    expect(Funnel.schedule(narrow, Jobs)).type.toBe<With<"E" | Scheduler.SchedulerError, "R" | Jobs>>()
    expect(narrow.pipe(Funnel.schedule(Jobs, { hold: "headers", weight: 2 })))
      .type.toBe<With<"E" | Scheduler.SchedulerError, "R" | Jobs>>()
    expect(narrow.pipe(Funnel.schedule(Jobs, { hold: "body" })))
      .type.toBe<With<"E" | Scheduler.SchedulerError | Failed, "R" | Jobs>>()
    expect(Funnel.schedule(narrow, Jobs, { hold: "body", tokens: (request) => request.url.length }))
      .type.toBe<With<"E" | Scheduler.SchedulerError | Failed, "R" | Jobs>>()
  })

  it("takes a handle, which it does not require", () => {
    expect(plain.pipe(Funnel.schedule(jobs))).type.toBe<With<Failed | Scheduler.SchedulerError>>()
    expect(plain.pipe(Funnel.schedule(hosts, { key: (request) => request.url })))
      .type.toBe<With<Failed | Scheduler.SchedulerError>>()
  })

  it("takes a Keyed: the host is its key, unless its keys are no strings", () => {
    expect(plain.pipe(Funnel.schedule(Hosts))).type.toBe<With<Failed | Scheduler.SchedulerError, Hosts>>()
    expect(narrow.pipe(Funnel.schedule(Hosts, { hold: "body", share: (request) => request.method })))
      .type.toBe<With<"E" | Scheduler.SchedulerError | Failed, "R" | Hosts>>()
    expect(Funnel.schedule(narrow, Tenants, { key: (request) => request.url.length, maxWait: "1 second" }))
      .type.toBe<With<"E" | Scheduler.SchedulerError, "R" | Tenants>>()
    // @ts-expect-error Expected 2 arguments, but got 1
    plain.pipe(Funnel.schedule(Tenants))
    // @ts-expect-error Type 'string' is not assignable to type 'number'
    plain.pipe(Funnel.schedule(Tenants, { key: (request) => request.url }))
  })

  it("takes schedulers only, and options that there are", () => {
    // @ts-expect-error Argument of type 'typeof Api' is not assignable
    plain.pipe(Funnel.schedule(Api))
    // @ts-expect-error No overload matches this call
    plain.pipe(Funnel.schedule(Jobs, { hold: "connection" }))
    // @ts-expect-error No overload matches this call
    plain.pipe(Funnel.schedule(Jobs, { concurrency: 5 }))
  })

  it("is used beside those of core", () => {
    expect(plain.pipe(Funnel.schedule(Jobs), HttpClient.filterStatusOk))
      .type.toBe<With<Failed | Scheduler.SchedulerError, Jobs>>()
  })
})

describe("reduce", () => {
  it("adds the failure of reading the body and the tag", () => {
    expect(plain.pipe(Funnel.reduce(Runs))).type.toBe<With<Failed, Runs>>()
    expect(narrow.pipe(Funnel.reduce(Runs, { headers: ["accept"] }))).type.toBe<With<"E" | Failed, "R" | Runs>>()
    expect(Funnel.reduce(narrow, Runs)).type.toBe<With<"E" | Failed, "R" | Runs>>()
  })

  it("refuses a client that requires Scope, which would close under those who joined", () => {
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined
    scoped.pipe(Funnel.reduce(Runs))
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined
    Funnel.reduce(scoped, Runs)
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined
    plain.pipe(HttpClient.withScope, Funnel.reduce(Runs))
  })

  it("does not blame Scope where the requirements of a client are unknown", () => {
    // @ts-expect-error or its requirements are unknown: annotate what it is made from
    unknownRequirements.pipe(Funnel.reduce(Runs))
  })
})

describe("penalize", () => {
  it("adds what the limiter fails with and the tag", () => {
    expect(plain.pipe(Funnel.penalize(Api))).type.toBe<With<Failed | RateLimiter.RateLimiterError, Api>>()
    expect(Funnel.penalize(narrow, Api, { key: (request) => request.url, atMost: "1 minute" }))
      .type.toBe<With<"E" | RateLimiter.RateLimiterError, "R" | Api>>()
  })

  it("takes schedulers, and a Keyed by the host or by a key of its own", () => {
    expect(plain.pipe(Funnel.penalize(Jobs))).type.toBe<With<Failed | Scheduler.SchedulerError, Jobs>>()
    expect(plain.pipe(Funnel.penalize(Hosts))).type.toBe<With<Failed | Scheduler.SchedulerError, Hosts>>()
    expect(Funnel.penalize(narrow, Tenants, { key: (request) => request.url.length, atMost: "1 minute" }))
      .type.toBe<With<"E" | Scheduler.SchedulerError, "R" | Tenants>>()
    // @ts-expect-error Argument of type 'typeof Tenants' is not assignable
    plain.pipe(Funnel.penalize(Tenants))
    // @ts-expect-error No overload matches this call
    plain.pipe(Funnel.penalize(Jobs, { key: () => "host" }))
  })

  it("takes no reducer", () => {
    // @ts-expect-error No overload matches this call
    plain.pipe(Funnel.penalize(Runs))
  })
})

describe("retryTransient", () => {
  it("adds the tag of the budget and what the schedule fails with and needs", () => {
    expect(plain.pipe(Funnel.retryTransient(Retries))).type.toBe<With<Failed, Retries>>()
    expect(plain.pipe(Funnel.retryTransient(retries, { times: 3 }))).type.toBe<With<Failed>>()
    expect(narrow.pipe(Funnel.retryTransient(Retries, { while: (error) => error === "E", schedule })))
      .type.toBe<With<"E" | "ES", "R" | "RS" | Retries>>()
    expect(Funnel.retryTransient(narrow, Retries, { retryOn: "response-only", schedule }))
      .type.toBe<With<"E" | "ES", "R" | "RS" | Retries>>()
  })
})

describe("limit", () => {
  it("adds the tag and the request, and no error", () => {
    expect(Funnel.limit(Api, { key: (request) => request.url })(app)).type.toBe<App<Api>>()
    expect(app.pipe(Funnel.limit(Jobs, { maxWait: "1 second", share: (request) => request.url })))
      .type.toBe<App<Jobs>>()
    expect(app.pipe(Funnel.limit(Hosts, { key: (request) => request.url }))).type.toBe<App<Hosts>>()
    expect(app.pipe(Funnel.limit(api))).type.toBe<App<never>>()
  })

  it("is a middleware of a router, with a handle", () => {
    expect(HttpRouter.middleware(Effect.map(Api, (api) => Funnel.limit(api))).layer)
      .type.toBe<Layer.Layer<never, never, Api>>()
    expect(HttpRouter.middleware(Effect.map(Jobs, (jobs) => Funnel.limit(jobs)), { global: true }))
      .type.toBe<Layer.Layer<never, never, HttpRouter.HttpRouter | Jobs>>()
  })

  it("does not make up the key of a Keyed", () => {
    // @ts-expect-error No overload matches this call
    Funnel.limit(Hosts)
    // @ts-expect-error No overload matches this call
    Funnel.limit(Tenants, { maxWait: 0 })
  })
})
