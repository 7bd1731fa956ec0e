import { Context, type Effect, type Layer, pipe, Schedule } from "effect"
import * as RetryBudget from "effect-funnel/RetryBudget"
import { describe, expect, it } from "tstyche"

class Db extends Context.Service<Db, { readonly url: string }>()("types/Db") {}
class Retries extends RetryBudget.Service<Retries>()("types/Retries") {}

declare const effect: Effect.Effect<number, "busy" | "gone", Db>
declare const budget: RetryBudget.RetryBudget
declare const schedule: Schedule.Schedule<number, unknown, "ES", "RS">

type Retried<R> = Effect.Effect<number, "busy" | "gone", R>

describe("retry", () => {
  it("keeps value, error and requirements, and adds the tag", () => {
    expect(RetryBudget.retry(effect)).type.toBe<Retried<Db | RetryBudget.RetryBudget>>()
    expect(RetryBudget.retry(effect, { times: 3 })).type.toBe<Retried<Db | RetryBudget.RetryBudget>>()
    expect(effect.pipe(RetryBudget.retry({ times: 3 }))).type.toBe<Retried<Db | RetryBudget.RetryBudget>>()
    expect(effect.pipe(Retries.retry({}))).type.toBe<Retried<Db | Retries>>()
    expect(budget.retry(effect)).type.toBe<Retried<Db>>()
    expect(effect.pipe(budget.retry({ times: 3 }))).type.toBe<Retried<Db>>()
  })

  it("keeps the error beside a schedule that takes any input", () => {
    expect(effect.pipe(Retries.retry({ schedule: Schedule.recurs(3) }))).type.toBe<Retried<Db | Retries>>()
    expect(pipe(effect, Retries.retry({ times: 3, schedule: Schedule.exponential("1 second") })))
      .type.toBe<Retried<Db | Retries>>()
    expect(budget.retry(effect, { schedule: Schedule.recurs(3) })).type.toBe<Retried<Db>>()
  })

  it("adds what the schedule fails with and needs", () => {
    type WithSchedule = Effect.Effect<number, "busy" | "gone" | "ES", Db | "RS">
    expect(budget.retry(effect, { schedule })).type.toBe<WithSchedule>()
    expect(effect.pipe(budget.retry({ schedule }))).type.toBe<WithSchedule>()
  })

  it("tells `while` the error of the effect", () => {
    budget.retry(effect, {
      while: (error) => {
        expect(error).type.toBe<"busy" | "gone">()
        return true
      }
    })
    const piped = effect.pipe(Retries.retry({
      while: (error) => {
        expect(error).type.toBe<"busy" | "gone">()
        return true
      },
      schedule: Schedule.recurs(3)
    }))
    expect(piped).type.toBe<Retried<Db | Retries>>()
    expect(budget.retry).type.not.toBeCallableWith(effect, { while: (error: number) => error > 0 })
  })

  it("infers in generic wrappers", () => {
    const wrapped = <A, E, R>(self: Effect.Effect<A, E, R>) => self.pipe(Retries.retry({ times: 2 }))
    expect(wrapped(effect)).type.toBe<Retried<Db | Retries>>()
  })
})

describe("the others", () => {
  it("stats needs the tag, and nothing on a handle", () => {
    expect(Retries.stats).type.toBe<Effect.Effect<RetryBudget.Stats, never, Retries>>()
    expect(budget.stats).type.toBe<Effect.Effect<RetryBudget.Stats>>()
  })

  it("layers provide their tag and need nothing", () => {
    expect(RetryBudget.layer()).type.toBe<Layer.Layer<RetryBudget.RetryBudget>>()
    expect(RetryBudget.layer({ tokens: 1, ratio: undefined })).type.toBe<Layer.Layer<RetryBudget.RetryBudget>>()
    expect(RetryBudget.layer).type.not.toBeCallableWith({ burst: 1 })
    expect(Retries.layer).type.toBe<Layer.Layer<Retries>>()
    expect(Retries.layerNoop).type.toBe<Layer.Layer<Retries>>()
  })
})
