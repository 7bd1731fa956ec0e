/**
 * Runs a program once for each of its operations, with something done at that operation, and once for each of many
 * schedules: it has to end with the right answer each time, and to leave nothing.
 *
 * A fiber that *yields* at an operation lets all others go on in between: that is what finds a waiter that looks first and
 * registers later. A fiber that is *interrupted* there shows what is left behind.
 */
import { expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { simulate } from "./simulation.ts"
import type { SimulationOptions, TurnScheduler } from "./simulation.ts"

export interface Subject<S, A, E> {
  /** What a run works on, made anew for each; its scope closes after `check`. */
  readonly make: Effect.Effect<S, unknown, Scope.Scope>
  /** The effect whose fiber is interrupted. */
  readonly subject: (fixture: S) => Effect.Effect<A, E, Scope.Scope>
  /** Runs beside the subject: opens the gates. */
  readonly meanwhile?:
    | ((fixture: S, subject: Fiber.Fiber<A, E>) => Effect.Effect<unknown, unknown, Scope.Scope>)
    | undefined
  /** What the subject gives where nobody interrupts it. */
  readonly expected: A
  /** Fails, or dies as an assertion does, if something was left. */
  readonly check?: ((fixture: S, exit: Exit.Exit<A, E>) => Effect.Effect<unknown, unknown, Scope.Scope>) | undefined
}

type Way = "yields" | "is interrupted" | "yields and is interrupted"

/** What is done, and at which operation. A program that has fewer does not reach it. */
interface Event {
  readonly way: Way
  readonly at: number
  reached: boolean
}

const program = <S, A, E>(self: Subject<S, A, E>, scheduler: TurnScheduler, event: Event | undefined) =>
  Effect.scoped(Effect.gen(function*() {
    const fixture = yield* self.make
    const subject = yield* Effect.forkChild(
      Effect.withFiber<A, E, Scope.Scope>((subject) => {
        scheduler.watch((operation) => {
          if (operation !== event?.at) return false
          event.reached = true
          if (event.way === "is interrupted") subject.interruptUnsafe()
          if (event.way === "yields and is interrupted") scheduler.scheduleTask(() => subject.interruptUnsafe())
          return event.way !== "is interrupted"
        })
        return self.subject(fixture)
      }),
      { startImmediately: true }
    )
    if (self.meanwhile !== undefined) yield* self.meanwhile(fixture, subject)
    const exit = yield* Fiber.await(subject)
    scheduler.watch(undefined)
    const interrupted = event?.reached === true && event.way !== "yields"
    if (!interrupted || exit._tag === "Success" || !Cause.hasInterruptsOnly(exit.cause)) {
      expect(yield* exit).toEqual(self.expected)
    }
    if (self.check !== undefined) yield* self.check(fixture, exit)
  }))

/** Runs the program in one way and dies if it hangs, or gives another answer, or leaves something. */
const once = <S, A, E>(
  self: Subject<S, A, E>,
  told: string,
  options: SimulationOptions,
  event?: Event
): TurnScheduler => {
  const { exit, scheduler, timers } = simulate((scheduler) => program(self, scheduler, event), options)
  if (exit === undefined) throw new Error(`${told}: hangs`)
  if (exit._tag === "Failure") throw new Error(`${told}: ${Cause.pretty(exit.cause)}`)
  if (timers > 0) throw new Error(`${told}: leaves ${timers} timers`)
  return scheduler
}

const atEachOperation = <S, A, E>(self: Subject<S, A, E>, way: Way): number => {
  // A run that is interrupted may take more operations than one that is not: go on until an operation is not reached.
  for (let at = 1;; at++) {
    const event: Event = { way, at, reached: false }
    once(self, `a fiber ${way} at operation ${at}`, {}, event)
    if (!event.reached) return at - 1
  }
}

/** Lets a fiber yield at each operation in turn; then every fiber at every few operations. Returns how many there were. */
export const yieldSweep = <S, A, E>(self: Subject<S, A, E>): number => {
  // Below 3 core itself gets nowhere.
  for (let n = 3; n <= 60; n++) once(self, `fibers yield at every ${n} operations`, { maxOpsBeforeYield: n })
  return atEachOperation(self, "yields")
}

/** Interrupts the subject at each operation in turn: while it runs, and while the fiber that is at it has yielded. */
export const interruptionSweep = <S, A, E>(self: Subject<S, A, E>): number =>
  Math.max(atEachOperation(self, "is interrupted"), atEachOperation(self, "yields and is interrupted"))

/** Runs the program under so many random orders of tasks, with yields at random. */
export const scheduleSweep = <S, A, E>(self: Subject<S, A, E>, seeds = 60): void => {
  for (let seed = 1; seed <= seeds; seed++) once(self, `seed ${seed}`, { seed })
}

/** The laws of what suspends: under all of these it gives what it should, and leaves nothing. */
export const sweep = <S, A, E>(name: string, subject: Subject<S, A, E>, seeds?: number): void => {
  it(`A fiber that yields at any operation loses no wake-up: ${name}`, () => {
    expect(yieldSweep(subject)).toBeGreaterThan(2)
  })
  it(`Tasks in any order give the right answer: ${name}`, () => {
    scheduleSweep(subject, seeds)
  })
  it(`An interruption at any operation leaves nothing behind: ${name}`, () => {
    expect(interruptionSweep(subject)).toBeGreaterThan(2)
  })
}
