/**
 * Runs a program in which code that is not ours is called, such as `Equal`, a getter, a hook or an observer, once for each of
 * these calls. At that call the code throws, uses the service itself, or interrupts a caller. Nobody but its own caller may
 * be hurt by it: all others get what they asked for, everybody ends, and nothing is left.
 */
import { expect } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Hash from "effect/Hash"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { simulate } from "./simulation.ts"
import type { TurnScheduler } from "./simulation.ts"

/** What foreign code calls: nearly always it does nothing. */
export type Meddle = () => void

export interface Caller {
  readonly effect: Effect.Effect<unknown, unknown>
  /** What it gets, whatever foreign code does. */
  readonly expected: unknown
  /** The foreign code is its own: it may end in any way, if it ends. */
  readonly owner?: boolean | undefined
  /** Foreign code observes its fiber. */
  readonly observed?: boolean | undefined
}

export interface Subject<S> {
  /** What a run works on, made anew for each; its scope closes after `check`. Foreign code in it calls `meddle`. */
  readonly make: (meddle: Meddle) => Effect.Effect<S, unknown, Scope.Scope>
  /** Started one after the other. */
  readonly callers: (fixture: S) => ReadonlyArray<Caller>
  /** Runs when all of them have been started, and nothing goes on without it. */
  readonly meanwhile?: ((fixture: S) => Effect.Effect<unknown, unknown>) | undefined
  /** How foreign code uses the service. */
  readonly enters?: Readonly<Record<string, (fixture: S) => Effect.Effect<unknown, unknown>>> | undefined
  /** Fails, or dies as an assertion does, if something was left. */
  readonly check: (fixture: S) => Effect.Effect<unknown, unknown>
}

/** What foreign code throws. */
export const bug = new Error("foreign code throws")

type Way<S> =
  | { readonly name: "throws" | "throws from then on" }
  | { readonly name: string; readonly interrupts: number }
  | { readonly name: string; readonly enters: (fixture: S) => Effect.Effect<unknown, unknown> }

const settle = Effect.forEach(Array.from({ length: 30 }), () => Effect.yieldNow, { discard: true })

interface Started {
  readonly name: string
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly ended: Deferred.Deferred<void>
}

/** Returns whether there was such a call, and how many callers there are. */
const once = <S>(
  subject: Subject<S>,
  way: Way<S>,
  at: number
): { readonly reached: boolean; readonly callers: number } => {
  let calls = 0
  let act: () => void = () => {}
  const meddle = (): void => {
    calls++
    if (calls === at || (calls > at && way.name === "throws from then on")) act()
  }
  const started: Array<Started> = []
  let size = 0
  const thrown: Array<unknown> = []
  const onThrow = (error: unknown): void => {
    if (error !== bug) thrown.push(error)
  }
  const program = (scheduler: TurnScheduler) =>
    Effect.scoped(Effect.gen(function*() {
      const fixture = yield* subject.make(meddle)
      const context = yield* Effect.context<never>()
      const start = (name: string, effect: Effect.Effect<unknown, unknown>) =>
        Effect.runForkWith(context)(
          // Known before its first step, in which foreign code may be called already.
          Effect.withFiber((fiber) => {
            const ended = Deferred.makeUnsafe<void>()
            // The first of its observers: core calls none behind one that throws.
            fiber.addObserver(() => scheduler.scheduleTask(() => Deferred.doneUnsafe(ended, Exit.void)))
            started.push({ name, fiber, ended })
            return effect
          }),
          { scheduler }
        )
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      let interrupts = -1
      act = () => {
        if ("interrupts" in way) {
          interrupts = way.interrupts
          fibers[interrupts]?.interruptUnsafe()
        } else if ("enters" in way) {
          start("one who enters from foreign code", way.enters(fixture))
        } else {
          throw bug
        }
      }
      const callers = subject.callers(fixture)
      size = callers.length
      for (const [i, caller] of callers.entries()) {
        scheduler.guard(() => start(`caller ${i}`, caller.effect))
        const fiber = fibers[i] = started.find(({ name }) => name === `caller ${i}`)!.fiber
        if (caller.observed === true) scheduler.guard(() => fiber.addObserver(meddle))
        if (interrupts === i) fiber.interruptUnsafe()
      }
      yield* settle
      if (subject.meanwhile !== undefined) yield* subject.meanwhile(fixture)
      for (const { ended } of started) yield* Deferred.await(ended)
      for (const [i, { expected, owner }] of callers.entries()) {
        const exit = fibers[i]!.pollUnsafe()!
        const left = interrupts === i && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
        if (owner === true || left) continue
        if (Exit.isFailure(exit)) throw new Error(`caller ${i} is hurt: ${Cause.pretty(exit.cause)}`)
        expect([`caller ${i}`, exit.value]).toEqual([`caller ${i}`, expected])
      }
      yield* settle
      yield* subject.check(fixture)
      act = () => {}
    })).pipe(Effect.provideService(Logger.CurrentLoggers, new Set()))
  const { exit, timers } = simulate(program, { onThrow })
  const told = `foreign code ${way.name} at call ${at}`
  if (exit === undefined) {
    const hanging = started.filter(({ fiber }) => fiber.pollUnsafe() === undefined).map((_) => _.name)
    throw new Error(`${told}: ${hanging.join(", ")} hangs`)
  }
  if (exit._tag === "Failure") throw new Error(`${told}: ${Cause.pretty(exit.cause)}`)
  if (thrown.length > 0) throw new Error(`${told}: an error of another kind escapes`, { cause: thrown[0] })
  if (timers > 0) throw new Error(`${told}: leaves ${timers} timers`)
  return { reached: calls >= at, callers: size }
}

/** Does it at each call in turn, in each way. There have to be at least so many calls. */
export const foreignSweep = <S>(subject: Subject<S>, leastCalls: number): void => {
  const ways: Array<Way<S>> = [{ name: "throws" }, { name: "throws from then on" }]
  const { callers } = once(subject, ways[0]!, Infinity)
  for (let i = 0; i < callers; i++) {
    ways.push({ name: `interrupts caller ${i}`, interrupts: i })
  }
  for (const [name, enters] of Object.entries(subject.enters ?? {})) ways.push({ name: `enters (${name})`, enters })
  let most = 0
  for (const way of ways) {
    let at = 1
    // What is done at a call may lead to more of them.
    while (once(subject, way, at).reached && at < 1_000) at++
    most = Math.max(most, at - 1)
  }
  expect(most).toBeGreaterThanOrEqual(leastCalls)
}

// ------------------------------------------------------------------------------------------------------- foreign values

class ForeignKey implements Equal.Equal {
  readonly name: string
  readonly meddle: Meddle
  constructor(name: string, meddle: Meddle) {
    this.name = name
    this.meddle = meddle
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    this.meddle()
    return that instanceof ForeignKey && that.name === this.name
  }
  // All of them collide.
  [Hash.symbol](): number {
    this.meddle()
    return 1
  }
}

/** Values that are equal if their names are, and call foreign code when they are compared. */
export const foreignValues: ReadonlyArray<readonly [string, (name: string, meddle: Meddle) => object]> = [
  ["Equal and Hash", (name, meddle) => new ForeignKey(name, meddle)],
  ["Equal and Hash, inside", (name, meddle) => new Map([["a", [new ForeignKey(name, meddle)]]])],
  ["a getter", (name, meddle) => ({
    get name() {
      meddle()
      return name
    }
  })],
  ["a proxy", (name, meddle) =>
    new Proxy({ name }, {
      get: (target, field) => (meddle(), Reflect.get(target, field)),
      has: (target, field) => (meddle(), Reflect.has(target, field)),
      ownKeys: (target) => (meddle(), Reflect.ownKeys(target)),
      getOwnPropertyDescriptor: (target, field) => (meddle(), Reflect.getOwnPropertyDescriptor(target, field)),
      getPrototypeOf: (target) => (meddle(), Reflect.getPrototypeOf(target))
    })]
]
