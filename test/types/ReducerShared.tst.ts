import { Context, Effect, type Layer, Schema, type Scope } from "effect"
import { type RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as RedisReducer from "effect-funnel/redis/Reducer"
import * as RedisScheduler from "effect-funnel/redis/Scheduler"
import { type Lease, type ReducerError, reduceShared } from "effect-funnel/SharedReducer"
import { Persistable, type Redis } from "effect/persistence"
import { describe, expect, test } from "tstyche"

class Db extends Context.Service<Db, { readonly query: Effect.Effect<number> }>()("test/Db") {}
class Prices extends Reducer.Service<Prices>()("test/Prices") {}
class Jobs extends Scheduler.Service<Jobs>()("test/Jobs", { concurrency: 1 }) {}

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {}) {}
class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
  primaryKey: (_) => _.id,
  success: Schema.Struct({ name: Schema.String }),
  error: NotFound
}) {}

declare const user: Effect.Effect<{ readonly name: string }, NotFound, Db>
declare const reducer: Reducer.Reducer
declare const limiter: Context.Service<"limiter", RateLimiter.RateLimiter>
const request = new GetUser({ id: "1" })

describe("reduceShared", () => {
  test("has the request's result, its error and the reducer's, and the effect's requirements", () => {
    expect(reduceShared(request, () => user)).type.toBe<
      Effect.Effect<{ readonly name: string }, NotFound | ReducerError, Db | Reducer.Reducer>
    >()
    expect(Effect.provideServiceEffect(reduceShared(request, () => user), Reducer.Reducer, Prices)).type.toBe<
      Effect.Effect<{ readonly name: string }, NotFound | ReducerError, Db | Prices>
    >()
    expect(Effect.provideService(reduceShared(request, () => user), Reducer.Reducer, reducer)).type.toBe<
      Effect.Effect<{ readonly name: string }, NotFound | ReducerError, Db>
    >()
  })

  test("hands the effect its lease", () => {
    reduceShared(request, (lease) => {
      expect(lease).type.toBe<Lease>()
      expect(lease.fence).type.toBe<number>()
      return user
    })
  })

  test("takes no effect that does not fit the request, none that requires Scope, and no plain key", () => {
    // @ts-expect-error Type 'Effect<number, never, never>' is not assignable to type 'Effect<{ readonly name: string; }, NotFound, never>'
    reduceShared(request, () => Effect.succeed(1))
    // @ts-expect-error Type 'Effect<never, string, never>' is not assignable to type 'Effect<{ readonly name: string; }, NotFound, never>'
    reduceShared(request, () => Effect.fail("no"))
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside
    reduceShared(request, () => Effect.andThen(Effect.scope, user))
    // @ts-expect-error Argument of type 'string' is not assignable to parameter of type 'Any'
    reduceShared("key", () => user)
  })
})

describe("layers over Redis", () => {
  test("are of the same tags, and require a Redis", () => {
    expect(RedisReducer.layer()).type.toBe<Layer.Layer<Reducer.Reducer, never, Redis.Redis>>()
    expect(RedisReducer.layerService(Prices)).type.toBe<Layer.Layer<Prices, never, Redis.Redis>>()
    expect(RedisReducer.make()).type.toBe<Effect.Effect<Reducer.Reducer, never, Redis.Redis | Scope.Scope>>()
    expect(RedisScheduler.layerService(Jobs, { concurrency: 2 })).type.toBe<Layer.Layer<Jobs, never, Redis.Redis>>()
    expect(RedisScheduler.layer({ concurrency: 2, rate: limiter })).type.toBe<
      Layer.Layer<Scheduler.Scheduler, never, Redis.Redis | "limiter">
    >()
  })

  test("refuse policies and widths that they do not have", () => {
    // @ts-expect-error is not assignable to type '"local" | "fail" | undefined'
    RedisReducer.layer({ onStoreError: "allow" })
    // @ts-expect-error Type 'string' is not assignable to type 'number'
    RedisScheduler.layer({ concurrency: "unbounded" })
  })
})
