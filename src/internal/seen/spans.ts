/**
 * The events of waits on the spans of callers.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import type { Place } from "../data/timers.js"

type AnyFiber = Fiber<unknown, unknown>

const eventName = "effect_funnel.wait"

const round = (millis: number): number => Math.round(millis * 1000) / 1000

/**
 * Puts the event of a wait on the span of a fiber, if it has one. `parts` are the milliseconds of each hold. A wait that took
 * no time was for the first one.
 */
const put = (
  name: string,
  fiber: AnyFiber,
  parts: ReadonlyArray<readonly [hold: string, millis: number]>
): void => {
  const { span } = fiber.cache
  if (span === undefined || span._tag !== "Span") return
  let waited = 0
  let [longest, most] = [parts[0]?.[0], 0]
  const attributes: Record<string, unknown> = { name }
  for (const [hold, millis] of parts) {
    if (millis <= 0) continue
    waited += millis
    attributes[hold] = round(millis)
    if (millis > most) [longest, most] = [hold, millis]
  }
  attributes.waited = round(waited)
  attributes.for = longest
  // The tracer is foreign code in the middle of our bookkeeping.
  try {
    span.event(eventName, fiber.getRef(Clock.Clock).currentTimeNanosUnsafe(), attributes)
  } catch {
    // An event is lost: the job is not.
  }
}

const holds: ReadonlyArray<Exclude<Hold, "nothing">> = ["width", "rate", "penalty", "pause"]

/** What the first job of a queue waits for. */
export type Hold = "nothing" | "width" | "rate" | "pause" | "penalty"

/** The queue of a scheduler. Its limiter knows the penalties that others give to it. */
interface Queue {
  readonly name: string
  readonly limiter: { readonly spans?: LimiterSpans | undefined } | undefined
}

/** Adds up what the queue of a scheduler waits for. */
export class Account {
  private readonly queue: Queue
  private readonly place: Place
  private readonly holdOf: () => Hold
  private readonly sums = { nothing: 0, width: 0, rate: 0, penalty: 0, pause: 0 }
  private hold: Hold = "nothing"
  private at: number

  constructor(queue: Queue, place: Place, holdOf: () => Hold) {
    this.queue = queue
    this.place = place
    this.holdOf = holdOf
    this.at = this.now()
  }

  private now(): number {
    return Number(this.place.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  private add(): void {
    const now = this.now()
    const took = now - this.at
    this.at = now
    // Others may have penalized the limiter since the last turn.
    const isSure = took === 0 || this.hold === "nothing" || this.hold === "pause"
    const penalty = isSure ? 0 : Math.min(took, (this.queue.limiter?.spans?.held(undefined, took * 1e6) ?? 0) / 1e6)
    this.sums[this.hold] += took - penalty
    this.sums.penalty += penalty
  }

  /** What the queue waits for may have changed. */
  turn(): void {
    this.add()
    this.hold = this.holdOf()
  }

  /** A caller begins to wait. Returns what resumes it and puts an event on its span. */
  enter<A>(fiber: AnyFiber, resume: (value: A) => void): (value: A) => void {
    this.add()
    const before = { ...this.sums }
    return (value) => {
      this.add()
      const parts = holds.map((hold) => [hold, this.sums[hold] - before[hold]] as const)
      put(this.queue.name, fiber, parts)
      resume(value)
    }
  }
}

/** Puts the event of a wait on a span when it ends. */
interface LimiterWait {
  admitted(): void
  /** Also if the wait fails. An admission takes no step of the fiber more. */
  refused<A, E>(wait: Effect.Effect<A, E>): Effect.Effect<A, E>
}

/** Times in nanoseconds of the clock. */
interface Penalty {
  readonly key: string | undefined
  readonly from: number
  until: number
}

/** More than any wait sees. What the oldest ones have held back is told as a wait for the rate. */
const mostKept = 32

/** Puts events on the spans of the callers of a limiter. Times in nanoseconds. */
export class LimiterSpans {
  private readonly name: string
  private readonly place: Place
  /** The last ones, in the order of their beginnings. */
  private readonly penalties: Array<Penalty> = []

  constructor(name: string, place: Place) {
    this.name = name
    this.place = place
  }

  private now(): number {
    return Number(this.place.clock.monotonicTimeNanosUnsafe())
  }

  /** A penalty holds a key from now on. */
  penalized(key: string | undefined, nanos: number): void {
    const from = this.now()
    this.penalties.push({ key, from, until: from + nanos })
    if (this.penalties.length > mostKept) this.penalties.shift()
  }

  /** The penalties of a key are over. */
  reset(key: string | undefined): void {
    const now = this.now()
    for (const penalty of this.penalties) if (penalty.key === key) penalty.until = Math.min(penalty.until, now)
  }

  /** For how much of the last time a penalty has held a key. */
  held(key: string | undefined, nanos: number): number {
    const now = this.now()
    let held = 0
    let seen = now - nanos
    for (const penalty of this.penalties) {
      if (penalty.key !== key) continue
      const since = Math.max(seen, penalty.from)
      const until = Math.max(since, Math.min(now, penalty.until))
      held += until - since
      seen = until
    }
    return held
  }

  /** A caller begins to wait. */
  enter(fiber: AnyFiber, key: string | undefined): LimiterWait {
    const since = this.now()
    const admitted = (): void => {
      const waited = this.now() - since
      const penalty = Math.min(waited, this.held(key, waited))
      put(this.name, fiber, [["rate", (waited - penalty) / 1e6], ["penalty", penalty / 1e6]])
    }
    return { admitted, refused: Effect.tapError(() => Effect.sync(admitted)) }
  }
}

/** Puts events on the spans of callers. */
export class Spans {
  account(queue: Queue, place: Place, holdOf: () => Hold): Account {
    return new Account(queue, place, holdOf)
  }

  limiter(name: string, place: Place): LimiterSpans {
    return new LimiterSpans(name, place)
  }
}

export const spans: Spans = /*#__PURE__*/ new Spans()
