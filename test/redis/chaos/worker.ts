/**
 * A process in a chaos run: its callers ask for shared runs, tokens and jobs until the end, and it records all of it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import * as RateLimiter from "../../../src/RateLimiter.js"
import * as Reducer from "../../../src/Reducer.js"
import type { SchedulerError } from "../../../src/Scheduler.js"
import { type ReducerError, reduceShared } from "../../../src/SharedReducer.js"
import { random } from "../../support/random.ts"
import { census, describe, Keys, runtime, serve, Text } from "../faults/subject.ts"
import type { Load } from "./run.ts"
import { type Kind, Recorder } from "./record.ts"

const load: Load = JSON.parse(process.env.CHAOS_LOAD ?? "{}")
const recorder = new Recorder(load.record, load.w)
const { note } = recorder
const draw = random(load.seed)
for (let i = 0; i < 10; i++) draw(2)

const pause = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

let ids = 0
/** No more callers come; so many are without an answer. */
const state = { ending: false, open: 0 }

/** One in so many runs is longer than a lease. */
const millisOfRun = () =>
  draw(25) === 0 ? load.leaseMillis + draw(load.longestRunMillis - load.leaseMillis) : 5 + draw(200)

const work = (kind: Kind, key: string, millis: number, fence: number, weight: number) =>
  Effect.suspend(() => {
    const id = `${load.w}:${++ids}`
    note({ e: "run", id, kind, key, fence, weight })
    return Effect.sleep(millis).pipe(
      Effect.as(id),
      Effect.onExit((exit) => Effect.sync(() => note({ e: "ran", id, how: exit._tag })))
    )
  })

type Answered = Effect.Effect<
  string,
  ReducerError | RateLimiter.RateLimiterError | SchedulerError,
  ManagedRuntime.ManagedRuntime.Services<typeof runtime>
>

/** Keys are of the kind that is their first letter. Some are asked for more often. */
const effects: Record<Kind, () => { readonly key: string; readonly effect: Answered }> = {
  flight: () => {
    const key = `f${Math.min(draw(load.keys.flight), draw(load.keys.flight))}`
    const millis = millisOfRun()
    return { key, effect: reduceShared(new Text({ key }), ({ fence }) => work("flight", key, millis, fence, 1)) }
  },
  token: () => {
    const key = `t${draw(load.keys.token)}`
    return { key, effect: Effect.as(RateLimiter.consume({ key }), "") }
  },
  job: () => {
    const key = `j${draw(load.keys.job)}`
    const weight = 1 + draw(2)
    return { key, effect: Keys.schedule(key, work("job", key, millisOfRun(), 0, weight), { weight }) }
  }
}

const caller = async (kind: Kind) => {
  await pause(draw(100))
  while (!state.ending) {
    const { effect, key } = effects[kind]()
    const id = `${load.w}:${++ids}`
    const leaves = draw(12) === 0
    state.open++
    note({ e: "call", id, kind, key, leaves })
    const fiber = runtime.runFork(
      // The start of what was waited for is noted in the step in which it is granted.
      Effect.onExit(
        effect,
        (exit) => Effect.sync(() => note({ e: "answer", id, ...describe(exit) }))
      )
    )
    const leaving = leaves ? setTimeout(() => fiber.interruptUnsafe(), draw(400)) : undefined
    await Effect.runPromise(Fiber.await(fiber))
    clearTimeout(leaving)
    state.open--
    await pause(draw(60))
  }
}

const beats = setInterval(() => note({ e: "beat" }), 20)
note({ e: "beat" })
const callers: Array<Promise<void>> = []

serve({
  ready: () => runtime.runPromise(Effect.void),
  begin: async () => {
    for (const kind of ["flight", "token", "job"] as const) {
      for (let i = 0; i < load.callers; i++) callers.push(caller(kind))
    }
  },
  /** Lets no more callers come and returns how many have no answer after a time. */
  finish: async ({ millis }: { millis: number }) => {
    state.ending = true
    await Promise.race([Promise.all(callers), pause(millis)])
    return state.open
  },
  left: async () => {
    const { sockets, timers } = await census()
    const flights = await runtime.runPromiseExit(Reducer.inFlight)
    const keys = await runtime.runPromiseExit(Keys.size)
    return {
      sockets,
      timers,
      flights: Exit.isSuccess(flights) ? flights.value.length : -1,
      keys: Exit.isSuccess(keys) ? keys.value : -1
    }
  }
}, () => {
  state.ending = true
  clearInterval(beats)
  note({ e: "ending" })
})
