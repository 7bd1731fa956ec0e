/**
 * A Batcher under callers of every kind that come, leave and wait for each other at random, in fibers that yield rarely or
 * after nearly every operation: each call ends, with its own answer or its interruption, and in the end nothing is left.
 */
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Data,
  Deferred,
  Effect,
  Exit,
  type Fiber,
  Layer,
  Request,
  RequestResolver,
  Scope
} from "effect"
import { Batcher, Scheduler } from "effect-funnel"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { TestClock } from "effect/testing"
import { leftIn } from "../support/leftInResolver.js"
import { isCached } from "../support/lookups.js"
import { random } from "../support/random.js"

class Broken extends Data.TaggedError("Broken")<{}> {}
class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
class Get extends Request.TaggedClass("Get")<{ readonly id: number }, string, Broken, Tenant> {}

const ids = 6

const simulate = (seed: number) =>
  Effect.gen(function*() {
    const next = random(seed)
    const scope = yield* Scope.make()
    // Where fibers yield nearly everywhere, what is sent may be left before it is handed over.
    const eager = next(2) === 0
    const bounded = next(3) === 0
    const caches = next(4) === 0
    const services = yield* Layer.buildWithScope(
      Batcher.layer({ ...(next(3) === 0 && { window: "3 millis" }), scheduler: Scheduler.Scheduler }).pipe(
        Layer.provideMerge(Scheduler.layer({ concurrency: 1 + next(2) }))
      ),
      scope
    )
    const seen = { batches: 0, merged: 0, interrupted: 0, nested: 0 }
    const problems: Array<string> = []
    const check = (holds: boolean, law: string) => {
      if (!holds) problems.push(law)
    }
    const gates: Array<Deferred.Deferred<void>> = []
    const waiting = new Map<string, number>()
    const wait = (tenant: string, id: number, by: number) => {
      const key = `${tenant}${id}`
      waiting.set(key, (waiting.get(key) ?? 0) + by)
      if (by < 0) return
      if (waiting.get(key)! > 1) seen.merged++
    }

    const execute = (requests: ReadonlyArray<Get>) =>
      Effect.gen(function*() {
        const tenant = yield* Tenant
        seen.batches++
        const wanted = requests.filter((_) => (waiting.get(`${tenant}${_.id}`) ?? 0) > 0)
        check(
          eager ? wanted.length > 0 : wanted.length === requests.length,
          "B3 nothing is asked for that nobody waits for"
        )
        check(new Set(requests.map((_) => _.id)).size === requests.length, "B2 each is asked for once")
        check(!bounded || requests.length <= 3, "B2 no batch is larger than it may be")
        if (next(3) > 0) {
          const gate = yield* Deferred.make<void>()
          gates.push(gate)
          yield* Deferred.await(gate)
        }
        if (next(5) === 0) {
          seen.nested++
          yield* look(tenant, next(ids), true)
        }
        if (next(8) === 0) return yield* new Broken()
        return requests.map((_) => `${tenant}${_.id}`)
      })

    const resolver = yield* Batcher.ordered(Get, {
      execute,
      isolate: [Tenant],
      ...(bounded ? { maxBatchSize: 3 } : {}),
      ...(caches ? { cache: { capacity: 4, timeToLive: () => "2 millis" } } : {})
    }).pipe(Effect.provideContext(Context.add(services, Scope.Scope, scope)))
    const wrapped = RequestResolver.batchN(resolver, 3)

    const judge = (tenant: string, id: number, exit: Exit.Exit<string, unknown>, inside: boolean) => {
      if (Exit.isSuccess(exit)) {
        return check(exit.value === `${tenant}${id}`, `B7 an answer of ${exit.value} for ${tenant}${id}`)
      }
      if (Exit.hasInterrupts(exit)) {
        return void seen.interrupted++
      }
      const reason = exit.cause.reasons[0]!
      const fine = Cause.isFailReason(reason)
        ? reason.error instanceof Broken
        : Cause.isDieReason(reason) && inside && reason.defect instanceof Batcher.BatcherError
      check(fine, `B4 ${tenant}${id} ends with ${String(Cause.squash(exit.cause))}`)
    }

    const fibers: Array<Fiber.Fiber<unknown>> = []
    const interruptOne = () => {
      fibers[Math.max(0, fibers.length - 1 - next(8))]?.interruptUnsafe()
    }

    /** One look-up or several, in one of the ways in which they are made. */
    const look = (tenant: string, id: number, inside = false): Effect.Effect<void, never, Scheduler.Scheduler> => {
      const one = (id: number, through: RequestResolver.RequestResolver<Get>) =>
        Effect.acquireUseRelease(
          Effect.sync(() => wait(tenant, id, 1)),
          () => Effect.request(new Get({ id }), through),
          (_, exit) =>
            Effect.sync(() => {
              wait(tenant, id, -1)
              judge(tenant, id, exit, inside)
              // In the step in which others are told.
              if (next(8) === 0) interruptOne()
            })
        )
      const many = (all: ReadonlyArray<number>) =>
        Effect.acquireUseRelease(
          Effect.sync(() => all.forEach((id) => wait(tenant, id, 1))),
          () => Batcher.loadManyExit(all.map((id) => new Get({ id })), resolver),
          (_, exit) =>
            Effect.sync(() => {
              for (const id of all) wait(tenant, id, -1)
              if (Exit.isSuccess(exit)) all.forEach((id, i) => judge(tenant, id, exit.value[i]!, inside))
              else judge(tenant, id, Exit.failCause(exit.cause), inside)
            })
        )
      /** The second is asked for in the step in which the first is told, or leaves. */
      const chained = (second: number) =>
        Effect.contextWith((context: Context.Context<Tenant>) =>
          Effect.callback<void>((resume) => {
            const ask = (id: number, then: () => void) => {
              wait(tenant, id, 1)
              return Effect.requestUnsafe(new Get({ id }), {
                resolver,
                context,
                onExit: (exit) => {
                  wait(tenant, id, -1)
                  judge(tenant, id, exit, inside)
                  then()
                }
              })
            }
            const leave = ask(id, () => ask(second, () => resume(Effect.void)))
            return Effect.sync(leave)
          })
        )
      const way = (): Effect.Effect<unknown, unknown, Tenant | Scheduler.Scheduler> => {
        switch (next(10)) {
          case 0:
            return many([id, next(ids), next(ids)])
          case 1:
            return one(id, wrapped)
          case 2:
            return Effect.timeoutOption(one(id, resolver), 1 + next(4))
          case 3:
            return Effect.raceFirst(one(id, resolver), one(next(ids), resolver))
          case 4:
            return Effect.uninterruptible(one(id, resolver))
          case 5:
            return Effect.all([one(id, resolver), one(id, resolver), one(next(ids), resolver)], {
              concurrency: "unbounded",
              mode: "result"
            })
          case 6:
            return chained(next(ids))
          default:
            return one(id, resolver)
        }
      }
      const placed = (depth: number): Effect.Effect<unknown, unknown, Tenant | Scheduler.Scheduler> =>
        depth === 0 || next(3) > 0
          ? way()
          : Scheduler.schedule(Effect.andThen(Effect.exit(placed(depth - 1)), placed(depth - 1)))
      return Effect.provideService(Effect.asVoid(Effect.exit(placed(inside ? 1 : 2))), Tenant, tenant)
    }

    const tenantOf = () => next(3) === 0 ? "b" : "a"
    const step = Effect.suspend((): Effect.Effect<unknown> => {
      const what = next(16)
      if (what < 7) {
        const work = Effect.provideContext(look(tenantOf(), next(ids)), services)
        return Effect.map(
          Effect.forkDetach(eager ? Effect.provideService(work, MaxOpsBeforeYield, 3 + next(3)) : work, {
            startImmediately: true
          }),
          (fiber) => void fibers.push(fiber)
        )
      }
      if (what < 10) {
        interruptOne()
      } else if (what < 12 && gates.length > 0) {
        Deferred.doneUnsafe(gates.splice(next(gates.length), 1)[0]!, Exit.void)
      } else if (what === 12) {
        return Effect.provideContext(next(2) === 0 ? Scheduler.pause : Scheduler.resume, services)
      } else if (what === 13) {
        return TestClock.adjust(1)
      } else if (what === 14 && isCached(resolver)) {
        const id = next(ids)
        const tenant = tenantOf()
        const primed = next(2) === 0
          ? resolver.prime(new Get({ id }), `${tenant}${id}`)
          : resolver.clear(new Get({ id }))
        return Effect.provideService(primed, Tenant, tenant)
      }
      return Effect.void
    })
    for (let i = 0; i < 50; i++) {
      yield* step
      for (let turns = next(4); turns > 0; turns--) yield* Effect.yieldNow
    }

    if (next(3) === 0) yield* Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true })
    else yield* Effect.provideContext(Scheduler.resume, services)
    const stats = Effect.provideContext(Scheduler.stats, services)
    const busy = Effect.map(stats, (_) =>
      _.running > 0 || Array.from(waiting.values()).some((_) => _ > 0) ||
      fibers.some((_) => _.pollUnsafe() === undefined))
    for (let round = 0; round < 400 && (yield* busy); round++) {
      while (gates.length > 0) Deferred.doneUnsafe(gates.shift()!, Exit.void)
      for (let turns = 0; turns < 8; turns++) yield* Effect.yieldNow
      yield* TestClock.adjust(1)
    }
    check(!(yield* busy), "every call ends")
    for (let turns = 0; turns < 30; turns++) yield* Effect.yieldNow
    yield* TestClock.adjust(5)
    const { queued, running } = yield* stats
    check(running === 0 && queued === 0, `${running} jobs run and ${queued} wait in the end`)
    if (isCached(resolver)) yield* resolver.clearAll
    const left = leftIn(resolver)
    check(left === "", `in the end there is left: ${left}`)
    // Not waited for: it would hang where something is left.
    yield* Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true })
    return { seen, problems: Array.from(new Set(problems)), eager }
  })

describe("Batcher under callers of every kind", () => {
  it.effect("B2 B3 B4 B5 B7 each call ends with its own answer or interruption, no request without a caller is sent, nothing is left", () =>
    Effect.gen(function*() {
      const all = { batches: 0, merged: 0, interrupted: 0, nested: 0 }
      const failed: Array<string> = []
      for (let seed = 1; seed <= 300; seed++) {
        const { eager, problems, seen } = yield* simulate(seed)
        if (problems.length > 0) failed.push(`seed ${seed}${eager ? " (yields)" : ""}: ${problems.join("; ")}`)
        for (const what of ["batches", "merged", "interrupted", "nested"] as const) all[what] += seen[what]
      }
      expect(failed.slice(0, 10).join("\n"), `${failed.length} failed`).toBe("")
      // Enough of each, or nothing was tested.
      for (const count of Object.values(all)) expect(count).toBeGreaterThan(100)
    }))
})
