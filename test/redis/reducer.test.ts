import { describe, expect } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import * as RedisReducer from "../../src/redis/Reducer.js"
import * as Reducer from "../../src/Reducer.js"
import { reduceShared } from "../../src/SharedReducer.js"
import { fork } from "../support/fibers.ts"
import { live, until } from "../support/live.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, redisServer } from "../support/redisServer.js"

class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
  primaryKey: (_) => _.id,
  success: Schema.String
}) {}

const processOn = (url: string, options?: RedisReducer.Options) =>
  Effect.gen(function*() {
    const redis = yield* Layer.build(Layer.fresh(layerClient(url)))
    return yield* Effect.provideContext(RedisReducer.make(options), redis)
  })

describe.skipIf(!hasRedis)("Reducer over Redis", () => {
  live("Eight processes with a thousand callers each share one run", function*() {
    const server = yield* redisServer()
    const processes = yield* Effect.all(Array.from({ length: 8 }, () => processOn(server.url)))
    let runs = 0
    const gate = yield* Deferred.make<void>()
    const callers = yield* Effect.forEach(
      processes,
      (reducer) =>
        Effect.forkChild(
          Effect.forEach(Array.from({ length: 1000 }), () =>
            reduceShared(new GetUser({ id: "1" }), ({ fence }) =>
              Effect.suspend(() => {
                runs++
                return Effect.as(Deferred.await(gate), String(fence))
              })).pipe(Effect.provideService(Reducer.Reducer, reducer)), { concurrency: "unbounded" })
        )
    )
    yield* Effect.sleep(300)
    yield* Deferred.succeed(gate, undefined)
    const results = (yield* Effect.forEach(callers, Fiber.join)).flat()
    expect(results.length).toBe(8000)
    expect(new Set(results).size).toBe(1)
    expect(runs).toBe(1)
  })

  live("A leader that is interrupted while its connection is cut hands over once it has another one", function*() {
    const server = yield* redisServer()
    const [a, b] = [
      yield* processOn(server.url, { lease: "1 minute" }),
      yield* processOn(server.url, { lease: "1 minute" })
    ]
    const call = (reducer: Reducer.Reducer, run: Effect.Effect<string>) =>
      fork(
        Effect.provideService(reduceShared(new GetUser({ id: "cut" }), () => run), Reducer.Reducer, reducer)
      )
    const began = yield* Deferred.make<void>()
    const leader = yield* call(a, Effect.andThen(Deferred.succeed(began, undefined), Effect.never))
    yield* Deferred.await(began)
    const follower = yield* call(b, Effect.succeed("b"))
    yield* until(Effect.promise(async () => (await server.command("KEYS", "*:w")).startsWith("*1")))
    yield* Effect.promise(() => server.command("CLIENT", "KILL", "TYPE", "normal"))
    yield* Fiber.interrupt(leader)
    expect(yield* Effect.timeoutOption(Fiber.join(follower), "10 seconds")).toMatchObject({ value: "b" })
  })

  live("A result of more bytes than `maxResultBytes` is a CodecError in all processes, and is run once", function*() {
    const server = yield* redisServer()
    const [a, b] = yield* Effect.all([1, 2].map(() => processOn(server.url, { maxResultBytes: 100 })))
    let runs = 0
    const call = (reducer: Reducer.Reducer | undefined, value: string) =>
      reduceShared(new GetUser({ id: value }), () => Effect.delay(Effect.sync(() => (runs++, value)), "100 millis"))
        .pipe(Effect.provideService(Reducer.Reducer, reducer!))
    const both = (value: string) =>
      Effect.all([a, b].map((reducer) => Effect.result(call(reducer, value))), { concurrency: 2 })
    const size = JSON.stringify({ _tag: "Success", value: "" }).length
    for (const value of ["x".repeat(100 - size), "é".repeat((100 - size) / 2 | 0)]) {
      expect((yield* both(value)).map((_) => _._tag)).toEqual(["Success", "Success"])
    }
    runs = 0
    for (const value of ["x".repeat(101 - size), "é".repeat((100 - size) / 2 + 1 | 0), "x".repeat(1_000_000)]) {
      for (const result of yield* both(value)) {
        expect(result).toMatchObject({
          _tag: "Failure",
          failure: { _tag: "ReducerError", reason: { _tag: "CodecError", operation: "encode" } }
        })
        expect(String(result)).toContain("it takes more than 100 bytes, the maxResultBytes of its reducer")
      }
    }
    expect(runs).toBe(3)
    expect(yield* Effect.result(call(a, "x".repeat(101)))).toMatchObject({ _tag: "Failure" })
  })
})
