/**
 * Runs a program to its end without the event loop: its fibers by a scheduler that a test decides about, its timers by a
 * clock that goes on when nothing else can. What can go on no more, with a fiber that has not ended, hangs, and is told so.
 *
 * Tasks run in turns, as those of core do: what a turn schedules belongs to the next. With a seed the tasks of a turn run in
 * random order, and fibers yield at random operations. The same seed does the same again.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { random } from "./random.ts"

/** How many tasks of one moment a program may take: what takes more turns in a circle. */
const mostTasks = 1_000_000

/** How many timers may still fire after the end of a program before those that are left count as left for good. */
const mostTimersAfterwards = 100

export interface SimulationOptions {
  /** Permutes the tasks of each turn, and lets fibers yield at random. */
  readonly seed?: number | undefined
  /** How often a seed lets a fiber yield: once in so many operations, 8 by default. */
  readonly yieldsOnceIn?: number | undefined
  /** After how many operations a fiber yields in any case: core's 2,048 by default. */
  readonly maxOpsBeforeYield?: number | undefined
  /** Is given what a task or a timer throws, which goes on to who runs the simulation by default. */
  readonly onThrow?: ((error: unknown) => void) | undefined
}

/** What a simulation asks before an operation: true lets the fiber yield in front of it. */
export type Ask = (operation: number) => boolean

export class TurnScheduler implements Scheduler.Scheduler, Scheduler.SchedulerDispatcher {
  readonly executionMode = "async"
  /** How many operations were asked about since the last `watch`. */
  operations = 0
  turns = 0
  private ready: Array<() => void> = []
  private ask: Ask | undefined = undefined
  private readonly next: ((below: number) => number) | undefined
  private readonly yieldsOnceIn: number
  private readonly onThrow: ((error: unknown) => void) | undefined

  constructor(options: SimulationOptions = {}) {
    this.next = options.seed === undefined ? undefined : random(options.seed)
    this.yieldsOnceIn = options.yieldsOnceIn ?? 8
    this.onThrow = options.onThrow
  }

  /** From here on operations are counted, and asked about. */
  watch(ask: Ask | undefined): void {
    this.operations = 0
    this.ask = ask
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    const operation = ++this.operations
    if (this.ask !== undefined && this.ask(operation)) return true
    if (this.next !== undefined && this.next(this.yieldsOnceIn) === 0) return true
    return fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield
  }

  // One for all fibers and services, so that a turn holds the tasks of all of them.
  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this
  }

  scheduleTask(task: () => void): void {
    this.ready.push(task)
  }

  get idle(): boolean {
    return this.ready.length === 0
  }

  /** Runs turns until nothing is ready. */
  flush(): void {
    let tasks = 0
    while (this.ready.length > 0) {
      this.turns++
      const turn = this.ready
      this.ready = []
      const next = this.next
      for (let left = turn.length; left > 0; left--) {
        const at = next === undefined ? turn.length - left : next(left)
        const task = turn[at]!
        if (next !== undefined) turn[at] = turn[left - 1]!
        if (++tasks > mostTasks) throw new Error("the program turns in a circle")
        this.guard(task)
      }
    }
  }

  guard<A>(f: () => A): A | undefined {
    if (this.onThrow === undefined) return f()
    try {
      return f()
    } catch (error) {
      this.onThrow(error)
      return undefined
    }
  }
}

interface Timer {
  readonly at: bigint
  /** Timers of one moment fire in the order in which they were set. */
  readonly number: number
  readonly fire: () => void
  /** Its place in the heap, -1 outside. */
  index: number
}

const isBefore = (left: Timer, right: Timer): boolean =>
  left.at < right.at || (left.at === right.at && left.number < right.number)

/** A clock that stands still until it is told to go on to its next timer. */
export class TurnClock implements Clock.Clock {
  now = 0n
  /** A binary heap: a simulation may hold a timer for each of ten thousand callers. */
  private readonly timers: Array<Timer> = []
  private count = 0

  get pending(): number {
    return this.timers.length
  }
  /** When the next timer fires. */
  get nextAt(): bigint | undefined {
    return this.timers[0]?.at
  }
  currentTimeMillisUnsafe = () => Number(this.now) / 1e6
  currentTimeNanosUnsafe = () => this.now
  monotonicTimeNanosUnsafe = () => this.now
  readonly currentTimeMillis = Effect.sync(this.currentTimeMillisUnsafe)
  readonly currentTimeNanos = Effect.sync(this.currentTimeNanosUnsafe)
  readonly monotonicTimeNanos = Effect.sync(this.monotonicTimeNanosUnsafe)

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    if (!Duration.isFinite(duration)) return Effect.never
    return Effect.callback<void>((resume) => {
      const at = this.now + Duration.toNanosUnsafe(duration)
      const timer: Timer = { at, number: this.count++, fire: () => resume(Effect.void), index: this.timers.length }
      this.timers.push(timer)
      this.rise(timer)
      return Effect.sync(() => this.remove(timer))
    })
  }

  private remove(timer: Timer): void {
    if (timer.index === -1) return
    const last = this.timers.pop()!
    if (last !== timer) {
      last.index = timer.index
      this.rise(last)
      this.sink(last)
    }
    timer.index = -1
  }

  private put(timer: Timer, index: number): void {
    this.timers[index] = timer
    timer.index = index
  }

  private rise(timer: Timer): void {
    let { index } = timer
    while (index > 0) {
      const above = this.timers[(index - 1) >> 1]!
      if (!isBefore(timer, above)) break
      const free = above.index
      this.put(above, index)
      index = free
    }
    this.put(timer, index)
  }

  private sink(timer: Timer): void {
    let { index } = timer
    while (true) {
      let below = this.timers[2 * index + 1]
      const right = this.timers[2 * index + 2]
      if (below !== undefined && right !== undefined && isBefore(right, below)) below = right
      if (below === undefined || !isBefore(below, timer)) break
      const free = below.index
      this.put(below, index)
      index = free
    }
    this.put(timer, index)
  }

  /** Lets so much time pass at once, as a blocked event loop does, and fires what is due. */
  pass(duration: Duration.Input): void {
    this.now += Duration.toNanosUnsafe(Duration.fromInputUnsafe(duration))
    while (this.timers[0] !== undefined && this.timers[0].at <= this.now) this.fireNext()
  }

  /** Goes on to the next timer and fires it; false if there is none. */
  fireNext(): boolean {
    const timer = this.timers[0]
    if (timer === undefined) return false
    this.remove(timer)
    if (timer.at > this.now) this.now = timer.at
    timer.fire()
    return true
  }
}

export interface Simulated<A, E> {
  /** Undefined if the program hangs: nothing was ready, no timer was set, and it had not ended. */
  readonly exit: Exit.Exit<A, E> | undefined
  readonly scheduler: TurnScheduler
  /** How many timers are left after it has ended, once those that end by themselves have. */
  readonly timers: number
}

/** Runs a program to its end, or until it hangs. `make` is given what decides about it. */
export const simulate = <A, E>(
  make: (scheduler: TurnScheduler, clock: TurnClock) => Effect.Effect<A, E>,
  options: SimulationOptions = {}
): Simulated<A, E> => {
  const scheduler = new TurnScheduler(options)
  const clock = new TurnClock()
  let context: Context.Context<never> = Context.make(Clock.Clock, clock)
  if (options.maxOpsBeforeYield !== undefined) {
    context = Context.add(context, Scheduler.MaxOpsBeforeYield, options.maxOpsBeforeYield)
  }
  const fiber = Effect.runForkWith(context)(make(scheduler, clock), { scheduler })
  const fireNext = () => clock.pending > 0 && scheduler.guard(() => clock.fireNext()) !== false
  do scheduler.flush()
  while (fiber.pollUnsafe() === undefined && fireNext())
  for (let i = 0; i < mostTimersAfterwards && fireNext(); i++) scheduler.flush()
  return { exit: fiber.pollUnsafe(), scheduler, timers: clock.pending }
}
