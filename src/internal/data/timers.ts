/**
 * Timers that outlive the fiber that starts them.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** Where it lives. */
export interface Place {
  readonly context: Context.Context<never>
  readonly clock: Clock.Clock
}

const longest = 2 ** 31 - 1

/**
 * Calls `f` after so many milliseconds by the clock of the place, unless the function that it returns is called before.
 */
export const after = (millis: number, f: () => void, { clock, context }: Place): () => void => {
  const fiber = Effect.runForkWith(context)(Effect.flatMap(clock.sleep(Duration.millis(millis)), () => Effect.sync(f)))
  return () => fiber.interruptUnsafe()
}

/**
 * The same for a callback that no caller waits for: the timer keeps no process alive.
 *
 * `Clock.sleep` cannot say so. On the real clock this is a timer of the host, which is told so where a host wants to be
 * (Node and Bun by `unref`, Deno by a function of its own); on any other clock, as in tests, it is a sleep like all others.
 * `f` may be called early, after some weeks: it looks at the time.
 */
export const idleAfter = (millis: number, f: () => void, place: Place): () => void => {
  if (place.clock !== Context.get(Context.empty(), Clock.Clock)) return after(millis, f, place)
  const timer: unknown = setTimeout(f, Math.min(millis, longest))
  // Declared nowhere but in Deno's own types.
  const host = globalThis as { readonly Deno?: { readonly unrefTimer?: (timer: unknown) => void } }
  if (typeof timer === "object" && timer !== null && "unref" in timer && typeof timer.unref === "function") {
    timer.unref()
  } else {
    host.Deno?.unrefTimer?.(timer)
  }
  // Sound: `clearTimeout` takes what `setTimeout` returned, whatever that is on this host.
  return () => clearTimeout(timer as Parameters<typeof clearTimeout>[0])
}

/** One timer for the next due time. */
export class Alarm {
  private readonly start: typeof after
  private readonly ring: () => void
  private readonly place: Place
  private cancel: (() => void) | undefined = undefined
  /** Changes whenever it is set, cleared or closed: a clock runs foreign code in that, which may do the same. */
  private changes = 0
  /** When it rings, `Infinity` while it is not set, `-Infinity` once it is closed. */
  at = Infinity

  /** `start` is `after` or `idleAfter`. */
  constructor(start: typeof after, ring: () => void, place: Place) {
    this.start = start
    this.ring = ring
    this.place = place
  }

  /** Rings at `due`, in nanoseconds as `now`, unless it is set for an earlier time. */
  set(due: number, now: number): void {
    // The ceiling: the timers of a host drop fractions, and nothing is early.
    const millis = Math.max(1, Math.ceil((due - now) / 1e6))
    const at = now + millis * 1e6
    if (at >= this.at) return
    const former = this.cancel
    const change = ++this.changes
    this.cancel = undefined
    this.at = at
    let rang = false
    const cancel = this.start(millis, () => {
      rang = true
      if (change !== this.changes) return
      this.cancel = undefined
      this.at = Infinity
      this.ring()
    }, this.place)
    if (!rang) {
      if (change === this.changes) this.cancel = cancel
      else cancel()
    }
    former?.()
  }

  clear(): void {
    const { cancel } = this
    this.changes++
    this.cancel = undefined
    if (this.at > -Infinity) this.at = Infinity
    cancel?.()
  }

  /** Ends it: it is not set again. */
  close(): void {
    this.at = -Infinity
    this.clear()
  }
}
