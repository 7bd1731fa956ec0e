/** What can stand between callers and a backend of limited width. */
import { Effect, type Scope, Semaphore } from "effect"
import pLimitOf from "p-limit"
import PQueue from "p-queue"
import { Scheduler } from "../funnel.ts"

/** A job as its protector sees it. */
export interface Job {
  readonly tenant: number
}

/** Runs work in its turn. Fails if it is refused. */
export type Protect = (work: Effect.Effect<void>, job: Job) => Effect.Effect<void, unknown>

export interface Protector {
  readonly name: string
  readonly promises: boolean
  readonly make: (width: number, patience: number) => Effect.Effect<Protect, never, Scope.Scope>
}

/** A library of promises: a caller waits for the promise of its job, and cannot leave. */
const promising = (
  name: string,
  make: (width: number) => (job: () => Promise<void>) => Promise<unknown>
): Protector => ({
  name,
  promises: true,
  make: (width) =>
    Effect.map(Effect.context<never>(), (context): Protect => {
      const limit = make(width)
      const promised = Effect.runPromiseWith(context)
      return (work) => Effect.promise(() => limit(() => promised(work)))
    })
})

const funnelOf = (name: string, options: (width: number, patience: number) => Scheduler.Options): Protector => ({
  name,
  promises: false,
  make: (width, patience) =>
    Effect.map(Scheduler.make(options(width, patience)), (scheduler): Protect => (work) => scheduler.schedule(work))
})

export const pLimit = promising("p-limit", (width) => pLimitOf(width))

export const pQueue = promising("p-queue", (width) => {
  const queue = new PQueue({ concurrency: width })
  return (job) => queue.add(job)
})

export const semaphore: Protector = {
  name: "Effect Semaphore",
  promises: false,
  make: (width) => Effect.map(Semaphore.make(width), (semaphore): Protect => (work) => semaphore.withPermit(work))
}

export const funnel = funnelOf("Funnel", (concurrency) => ({ concurrency }))

export const maxWait = funnelOf("Funnel, maxWait", (concurrency, patience) => ({ concurrency, maxWait: patience }))

export const shed = funnelOf("Funnel, shed", (concurrency) => ({ concurrency, shed: true }))

export const shedAndMaxWait = funnelOf(
  "Funnel, shed and maxWait",
  (concurrency, patience) => ({ concurrency, maxWait: patience, shed: true })
)

export const share: Protector = {
  name: "Funnel, share",
  promises: false,
  make: (concurrency) =>
    Effect.map(
      Scheduler.make({ concurrency }),
      (scheduler): Protect => (work, { tenant }) => scheduler.schedule(work, { share: tenant })
    )
}

/** A protector that can let no job start for so many milliseconds. */
export interface Penalizer {
  readonly name: string
  readonly promises: boolean
  readonly make: (width: number) => Effect.Effect<
    { readonly protect: Protect; readonly hold: (millis: number) => Effect.Effect<void> },
    never,
    Scope.Scope
  >
}

export const pause: Penalizer = {
  name: "p-queue, pause",
  promises: true,
  make: (width) =>
    Effect.map(Effect.context<never>(), (context) => {
      const queue = new PQueue({ concurrency: width })
      const promised = Effect.runPromiseWith(context)
      const resumeAfter = (millis: number) => Effect.andThen(Effect.sleep(millis), Effect.sync(() => queue.start()))
      return {
        protect: (work) => Effect.promise(() => queue.add(() => promised(work))),
        hold: (millis) =>
          Effect.asVoid(Effect.forkDetach(Effect.andThen(Effect.sync(() => queue.pause()), resumeAfter(millis))))
      }
    })
}

export const penalize = (maxWait: number | undefined): Penalizer => ({
  name: maxWait === undefined ? "Funnel, penalize" : "Funnel, maxWait and penalize",
  promises: false,
  make: (concurrency) =>
    Effect.map(Scheduler.make({ concurrency, maxWait }), (scheduler) => ({
      protect: (work) => scheduler.schedule(work),
      hold: (millis) => Effect.orDie(scheduler.penalize({ for: millis }))
    }))
})
