/**
 * The events of waits on the spans of callers.
 */
import * as Clock from "effect/Clock"
import type { Fiber } from "effect/Fiber"
import type { Place } from "../data/timers.js"
import { Penalties } from "./penalties.js"

type AnyFiber = Fiber<unknown, unknown>

const eventName = "effect_funnel.wait"

const round = (millis: number): number => Math.round(millis * 1000) / 1000

/** Puts the event of a wait on the span of a fiber, if it has one. `parts` are the milliseconds of each hold. */
const put = (
  name: string,
  fiber: AnyFiber,
  parts: ReadonlyArray<readonly [hold: string, millis: number]>
): void => {
  const { span } = fiber.cache
  if (span === undefined || span._tag !== "Span") return
  let waited = 0
  let [longest, most] = ["width", 0]
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

/** Adds up what the queue of a scheduler waits for. */
export class Account {
  private readonly name: string
  private readonly place: Place
  private readonly holdOf: () => Hold
  private readonly penalized: (nanos: number) => number
  private readonly sums = { nothing: 0, width: 0, rate: 0, penalty: 0, pause: 0 }
  private hold: Hold = "nothing"
  private at: number

  constructor(name: string, place: Place, holdOf: () => Hold, penalized: (nanos: number) => number) {
    this.name = name
    this.place = place
    this.holdOf = holdOf
    this.penalized = penalized
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
    const isSure = took === 0 || this.hold === "nothing" || this.hold === "penalty" || this.hold === "pause"
    const penalty = isSure ? 0 : Math.min(took, this.penalized(took * 1e6) / 1e6)
    this.sums[this.hold] += took - penalty
    this.sums.penalty += penalty
  }

  /** What the queue waits for may have changed. */
  turn(): void {
    this.add()
    this.hold = this.holdOf()
  }

  /** A caller begins to wait. To be called at the end of the wait: it puts an event on the span of the caller. */
  enter(fiber: AnyFiber): () => void {
    this.add()
    const before = { ...this.sums }
    return () => {
      this.add()
      const parts = holds.map((hold) => [hold, this.sums[hold] - before[hold]] as const)
      put(this.name, fiber, parts)
    }
  }
}

/** Puts events on the spans of callers. */
export class Spans {
  /** `penalized` tells for how many of the last nanoseconds a penalty has held the queue, as far as the limiter knows. */
  account(name: string, place: Place, holdOf: () => Hold, penalized: (nanos: number) => number): Account {
    return new Account(name, place, holdOf, penalized)
  }

  penalties(): Penalties {
    return new Penalties()
  }

  /** A caller has waited for a limiter; `penalty` is the part of it for a penalty. In nanoseconds. */
  limited(name: string, fiber: AnyFiber, waited: number, penalty: number): void {
    const held = Math.min(waited, penalty)
    put(name, fiber, [["rate", (waited - held) / 1e6], ["penalty", held / 1e6]])
  }
}

export const spans: Spans = /*#__PURE__*/ new Spans()
