import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Batcher, Reducer, Scheduler } from "effect-funnel"
import { fork } from "./support/fibers.ts"
import { law } from "./support/reducerLaw.ts"

const cycleOf = (exit: Exit.Exit<unknown, unknown>): Reducer.ReducerCycle | undefined => {
  const die = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isDieReason) : undefined
  return die?.defect instanceof Reducer.ReducerCycle ? die.defect : undefined
}
const text = (exit: Exit.Exit<unknown, unknown>) =>
  cycleOf(exit)?.message.replace("the run would wait for itself: ", "")

class Get extends Request.TaggedClass("Get")<{ readonly id: number }, string> {}

describe("cycles through runs, jobs and batches", () => {
  const noop = Layer.merge(Batcher.layerNoop, Scheduler.layerNoop)
  const layer = Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
    Layer.provideMerge(Scheduler.layer({ concurrency: 2 }))
  )
  for (const [where, services, job] of [["on its own", noop, ""], ["in a scheduler", layer, "a job.* -> "]] as const) {
    for (const [name, called] of [["Users", "Users"], [undefined, "Get"]] as const) {
      it.effect(`R7 a run that waits for a batch ${where} which reduces its key dies, and the path names ${called}`, () =>
        Effect.gen(function*() {
          const reducer = yield* Reducer.make()
          const seen: Array<string | undefined> = []
          const users = yield* Batcher.ordered(Get, {
            name,
            execute: (requests) =>
              Effect.map(Effect.exit(reducer.reduce("k", Effect.succeed("v"))), (exit) => {
                seen.push(text(exit))
                return requests.map(({ id }) => `user ${id}`)
              })
          })
          expect(yield* reducer.reduce("k", Effect.request(new Get({ id: 1 }), users))).toBe("user 1")
          expect(seen.join("")).toMatch(new RegExp(`^${called} 1 -> ${job}"k" -> ${called} 1$`))
          expect(yield* reducer.inFlight).toEqual([])
        }).pipe(Effect.scoped, Effect.provide(services), TestClock.withLive))
    }
  }

  it.effect("R7 a batch that joins an outside caller's run which waits for the batch dies", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const began = Latch.makeUnsafe(false)
      const gate = Latch.makeUnsafe(false)
      const users = yield* Batcher.ordered(Get, {
        name: "Users",
        execute: (requests) =>
          Effect.gen(function*() {
            yield* began.open
            yield* gate.await
            const exit = yield* Effect.exit(reducer.reduce("outside", Effect.succeed("v")))
            return requests.map(() => String(text(exit)))
          })
      })
      const batch = yield* fork(Effect.request(new Get({ id: 1 }), users))
      yield* began.await
      const outside = yield* fork(
        reducer.fn("find")((_: number) => reducer.reduce("outside", Effect.request(new Get({ id: 1 }), users)))(7)
      )
      yield* gate.open
      const path = yield* Fiber.join(batch)
      expect(path).toMatch(/^Users 1 -> a job.* -> "outside" -> Users 1$/)
      expect(yield* Fiber.join(outside)).toBe(path)
    }).pipe(Effect.scoped, Effect.provide(layer), TestClock.withLive))

  law("R7 a job inside a run that reduces the run's key dies, and the path begins with the run", function*(reducer) {
    const scheduler = yield* Scheduler.make({ concurrency: 1 })
    const find: (id: number) => Effect.Effect<number> = reducer.fn("find")((id: number) =>
      Effect.orDie(scheduler.schedule(Effect.andThen(Effect.yieldNow, Effect.suspend(() => find(id)))))
    )
    const exit = yield* Effect.exit(find(7))
    expect(text(exit)).toMatch(/^find 7 -> a job.* -> find 7$/)
    expect(cycleOf(exit)!.path.map(({ key, kind }) => [kind, key])).toEqual([
      ["run", 7],
      ["job", undefined],
      ["run", 7]
    ])
    expect(yield* scheduler.schedule(Effect.succeed("free"))).toBe("free")
  })

  for (const others of [0, 1]) {
    it.effect(
      `R7 the last caller to leave waits for the finalizers, which may join ${
        others === 0 ? "nothing that waits for it" : "another run that does not wait for it"
      }`,
      () =>
        Effect.gen(function*() {
          const reducer = yield* Reducer.make()
          const seen: Array<Exit.Exit<unknown, unknown>> = []
          const gate = Latch.makeUnsafe(false)
          const other = yield* fork(reducer.reduce("other", Effect.as(gate.await, "other")))
          const inner = reducer.reduce(
            "inner",
            Effect.ensuring(
              Effect.never,
              Effect.exit(reducer.reduce(others === 0 ? "outer" : "other", Effect.succeed("new"))).pipe(
                Effect.tap((exit) => Effect.sync(() => seen.push(exit)))
              )
            )
          )
          // Two callers of `inner` in `outer`: the first to leave waits for nothing, the last for the finalizers.
          const outer = yield* fork(reducer.reduce(
            "outer",
            Effect.gen(function*() {
              const first = yield* fork(inner)
              const last = yield* fork(inner)
              yield* Fiber.interrupt(first)
              expect(seen).toEqual([])
              yield* Fiber.interrupt(last)
              return "left"
            })
          ))
          yield* gate.open
          expect(yield* Fiber.join(outer)).toBe("left")
          expect(seen.map((exit) => Exit.isSuccess(exit) ? exit.value : text(exit))).toEqual([
            others === 0 ? `"inner" -> "outer" -> "inner"` : "other"
          ])
          expect(yield* Fiber.join(other)).toBe("other")
        })
    )
  }

  law("R7 parallel joins that leave one by one keep the edge until the last of them has left", function*(reducer) {
    const gate = Latch.makeUnsafe(false)
    const steps: Array<string | undefined> = []
    const again = Effect.map(Effect.exit(reducer.reduce("a", Effect.succeed("new a"))), text)
    yield* fork(reducer.reduce(
      "b",
      Effect.gen(function*() {
        yield* gate.await
        steps.push(yield* again)
        yield* gate.close
        yield* gate.await
        return yield* reducer.reduce("a", Effect.succeed("new a"))
      })
    ))
    const other = yield* fork(reducer.reduce("b", Effect.never))
    const release = Latch.makeUnsafe(false)
    const a = yield* fork(reducer.reduce(
      "a",
      Effect.gen(function*() {
        const joins = yield* Effect.forEach([1, 2, 3], () => fork(reducer.reduce("b", Effect.never)))
        yield* Fiber.interrupt(joins[0]!)
        yield* Fiber.interrupt(joins[2]!)
        yield* gate.open
        yield* Effect.yieldNow
        yield* Fiber.interrupt(joins[1]!)
        yield* gate.open
        yield* release.await
        return "a"
      })
    ))
    while ((yield* reducer.inFlight).find((run) => run.key === "a")?.callers !== 2) yield* Effect.yieldNow
    yield* release.open
    expect(yield* Fiber.join(a)).toBe("a")
    expect(steps).toEqual([`"b" -> "a" -> "b"`])
    expect(yield* Fiber.join(other)).toBe("a")
  })

  law("R7 a run that ends while it is being joined waits for nothing afterwards", function*(reducer) {
    const gate = Latch.makeUnsafe(false)
    // What `a` leaves behind goes on waiting for `b`; `b` may start `a` anew all the same.
    const b = yield* fork(
      reducer.reduce("b", Effect.andThen(gate.await, reducer.reduce("a", Effect.succeed("second a"))))
    )
    const left = yield* reducer.reduce(
      "a",
      Effect.forkDetach(reducer.reduce("b", Effect.never), { startImmediately: true })
    )
    yield* gate.open
    expect(yield* Fiber.join(b)).toBe("second a")
    expect(yield* Fiber.join(left)).toBe("second a")
  })
})

describe("closing from inside", () => {
  it.effect("R9 a run that closes another reducer waits for its runs, and a run of it that would wait in turn dies", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const own = yield* Reducer.make()
      const closed = yield* Scope.provide(Reducer.make(), scope)
      const gate = Latch.makeUnsafe(false)
      let seen: string | undefined
      const finalizer = gate.await.pipe(
        Effect.andThen(Effect.exit(own.reduce("closer", Effect.succeed(1)))),
        Effect.tap((exit) => Effect.sync(() => (seen = text(exit))))
      )
      yield* fork(closed.reduce("inner", Effect.ensuring(Effect.never, finalizer)))
      const closer = yield* fork(own.reduce("closer", Effect.as(Scope.close(scope, Exit.void), "closed")))
      yield* gate.open
      expect(yield* Fiber.join(closer)).toBe("closed")
      expect(seen).toBe(`"inner" -> "closer" -> "inner"`)
    }))

  it.effect("R9 a run that closes its reducer does not wait for itself, wherever the reducer was made", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const other = yield* Reducer.make()
      const made = Deferred.makeUnsafe<Reducer.Reducer>()
      yield* fork(other.reduce(
        "maker",
        Reducer.make().pipe(
          Scope.provide(scope),
          Effect.flatMap((reducer) => Deferred.succeed(made, reducer)),
          Effect.andThen(Effect.never)
        )
      ))
      const reducer = yield* Deferred.await(made)
      const closer = yield* fork(
        reducer.reduce("closer", Effect.andThen(Effect.yieldNow, Scope.close(scope, Exit.void)))
      )
      expect(Exit.hasInterrupts(yield* Fiber.await(closer))).toBe(true)
    }))

  law(
    "R9 a job that closes a reducer lends its width to what the runs wait for in the queue",
    function*(reducer, scope) {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const gate = Latch.makeUnsafe(false)
      const finalized: Array<string> = []
      const finalizer = scheduler.schedule(Effect.sync(() => finalized.push("finalized")))
      yield* fork(reducer.reduce("key", Effect.ensuring(Effect.never, Effect.orDie(finalizer))))
      const job = yield* fork(scheduler.schedule(Effect.andThen(gate.await, Scope.close(scope, Exit.void))))
      yield* gate.open
      yield* Fiber.join(job)
      expect(finalized).toEqual(["finalized"])
    }
  )

  law(
    "R9 a job inside a run that closes its reducer waits neither for the run nor for those that wait for it",
    function*(reducer, scope) {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const close = Effect.andThen(Effect.yieldNow, Scope.close(scope, Exit.void))
      const inner = reducer.reduce("inner", Effect.orDie(scheduler.schedule(close)))
      const outer = yield* fork(reducer.reduce("outer", inner))
      expect(Exit.hasInterrupts(yield* Fiber.await(outer))).toBe(true)
    }
  )
})
