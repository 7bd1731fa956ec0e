import type { Scope } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpClient } from "effect/http"
import type { HttpClientError } from "effect/http"
import { describe, expect, it } from "tstyche"

class Jobs extends Scheduler.Service<Jobs>()("test/Jobs", { concurrency: 1 }) {}
class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 1, window: 1 }) {}
class Runs extends Reducer.Service<Runs>()("test/Runs") {}

declare const plain: HttpClient.HttpClient
declare const narrow: HttpClient.HttpClient.With<"E", "R">
declare const unknownRequirements: HttpClient.HttpClient.With<"E", unknown>
declare const scoped: HttpClient.HttpClient.With<"E", Scope.Scope>

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

  it("takes limiters only", () => {
    // @ts-expect-error Argument of type 'typeof Jobs' is not assignable
    plain.pipe(Funnel.penalize(Jobs))
  })
})
