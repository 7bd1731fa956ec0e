/**
 * Mixed load on all four services at once, with random interruptions, failures, defects, timeouts and resizes.
 *
 * At the end, every call must be accounted for. No key, job, permit, fiber or timer may be left, and the heap may not
 * grow from the first quarter of the time to the last.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Data, Effect, Exit, Fiber, Layer, Request } from "effect"
import { Command, Flag } from "effect/cli"
import { execFileSync } from "node:child_process"
import { getActiveResourcesInfo } from "node:process"
import { Batcher, RateLimiter, Reducer, Scheduler } from "./funnel.ts"

class Refused extends Data.TaggedError("Refused")<{ readonly id: number }> {}

class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, string, Refused> {}

class Users extends Batcher.Resolver<Users>()(
  "soak/Users",
  Batcher.ordered(GetUser, {
    execute: (requests: ReadonlyArray<GetUser>) =>
      Effect.as(
        Effect.sleep(1),
        requests.map((request) =>
          request.id % 17 === 0 ? Exit.fail(new Refused({ id: request.id })) : Exit.succeed(`user ${request.id}`)
        )
      )
  })
) {}

const layers = Users.layer.pipe(
  Layer.provideMerge(Batcher.layer({ scheduler: Scheduler.Scheduler })),
  Layer.provideMerge(Scheduler.layer({ concurrency: 50, rate: { limit: 20_000, window: "1 second", burst: 50 } })),
  Layer.provideMerge(Reducer.layer()),
  Layer.provideMerge(RateLimiter.layer({ limit: 50_000, window: "1 second", burst: 100 }))
)

const count = { calls: 0, results: 0, errors: 0, defects: 0, interruptions: 0 }

/** A call's exit is one of four kinds. A call without an exit at the end is lost. */
const accounted = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  Effect.suspend(() => {
    count.calls++
    return Effect.asVoid(Effect.exit(Effect.onExit(call, (exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) count.results++
        else if (Cause.hasInterruptsOnly(exit.cause)) count.interruptions++
        else if (Cause.hasDies(exit.cause)) count.defects++
        else count.errors++
      }))))
  })

const chance = (probability: number) => Math.random() < probability
const below = (n: number) => Math.floor(Math.random() * n)

const work = (id: number): Effect.Effect<number, Refused> =>
  Effect.suspend(() => {
    if (chance(0.02)) return Effect.fail(new Refused({ id }))
    if (chance(0.005)) return Effect.die(new Error("a defect, on purpose"))
    if (chance(0.3)) return Effect.succeed(id)
    return Effect.as(Effect.sleep(below(4)), id)
  })

type Services = Reducer.Reducer | Scheduler.Scheduler | RateLimiter.RateLimiter | Users

const call = Effect.suspend((): Effect.Effect<unknown, unknown, Services> => {
  const id = below(200)
  switch (below(6)) {
    case 0:
      return Reducer.reduce(id, work(id))
    case 1:
      return Reducer.reduce(["nested", id], Scheduler.schedule(work(id), { weight: 1 + below(5) }))
    case 2:
      return Scheduler.schedule(work(id), { weight: 1 + below(50), priority: below(3) })
    case 3:
      return RateLimiter.withLimit(work(id), { key: `key ${id}` })
    case 4:
      return Scheduler.schedule(Effect.request(new GetUser({ id }), Users))
    default:
      return Effect.request(new GetUser({ id }), Users)
  }
})

const disturbed = Effect.suspend((): Effect.Effect<unknown, unknown, Services> => {
  if (chance(0.1)) return Effect.timeout(call, below(5))
  if (chance(0.1)) {
    return Effect.flatMap(
      Effect.forkChild(call, { startImmediately: chance(0.5) }),
      (fiber) => Effect.andThen(chance(0.5) ? Effect.yieldNow : Effect.sleep(below(3)), Fiber.interrupt(fiber))
    )
  }
  return call
})

const settled = () => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  return process.memoryUsage().heapUsed / 1_048_576
}

const pause = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 200)))

const soak = (options: { readonly minutes: number; readonly callers: number }) =>
  Effect.gen(function*() {
    const quarters: Array<number> = []
    const trouble: Array<string> = []
    const timersBefore = getActiveResourcesInfo().filter((name) => name === "Timeout").length
    yield* Effect.gen(function*() {
      const quarter = (options.minutes * 60_000) / 4
      const caller = Effect.forever(accounted(disturbed))
      const resizing = Effect.forever(
        Effect.andThen(Effect.sleep(250), Effect.suspend(() => Scheduler.resize(50 + below(50))))
      )
      for (let i = 0; i < 4; i++) {
        const load = yield* Effect.forkChild(
          Effect.all([...Array.from({ length: options.callers }, () => caller), resizing], {
            concurrency: "unbounded",
            discard: true
          })
        )
        yield* Effect.sleep(quarter)
        yield* Fiber.interrupt(load)
        yield* pause
        quarters.push(settled())
        yield* Console.log(
          `${((i + 1) * options.minutes / 4).toFixed(2)} min: ${count.calls} calls, ${count.results} results, ` +
            `${count.errors} errors, ${count.defects} defects, ${count.interruptions} interruptions, ` +
            `${quarters[i]!.toFixed(1)} MB`
        )
        const inFlight = yield* Reducer.inFlight
        const stats = yield* Scheduler.stats
        if (inFlight.length > 0) trouble.push(`${inFlight.length} runs left in the reducer`)
        if (stats.running > 0 || stats.queued > 0) {
          trouble.push(`${stats.running} jobs running and ${stats.queued} queued in the scheduler`)
        }
      }
    }).pipe(Effect.provide(layers))
    yield* pause
    const accountedFor = count.results + count.errors + count.defects + count.interruptions
    if (accountedFor !== count.calls) trouble.push(`${count.calls - accountedFor} calls without an end`)
    const timers = getActiveResourcesInfo().filter((name) => name === "Timeout").length - timersBefore
    if (timers > 0) trouble.push(`${timers} timers left`)
    const growth = quarters[3]! - quarters[0]!
    if (growth > 5) trouble.push(`the heap grew by ${growth.toFixed(1)} MB from the first quarter to the last`)
    if (trouble.length > 0) return yield* Effect.fail(new Error(trouble.join("; ")))
    yield* Console.log(`all ${count.calls} calls accounted for, nothing left`)
  })

const command = Command.make("soak", {
  minutes: Flag.Finite("minutes").pipe(
    Flag.filter((minutes) => minutes > 0, (minutes) => `--minutes must be > 0, got ${minutes}`),
    Flag.withDefault(1)
  ),
  callers: Flag.Int("callers").pipe(
    Flag.filter((callers) => callers >= 1, (callers) => `--callers must be an integer >= 1, got ${callers}`),
    Flag.withDefault(500)
  )
}, soak)

if (globalThis.gc === undefined) {
  try {
    execFileSync(process.execPath, ["--expose-gc", ...process.argv.slice(1)], { stdio: "inherit" })
  } catch {
    process.exitCode = 1
  }
} else {
  NodeRuntime.runMain(Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer)))
}
