/**
 * The last penalties of a limiter, for the events on the spans of callers: which part of a wait was for a penalty.
 */

/** Times in nanoseconds of the limiter. */
interface Penalty {
  readonly key: string | undefined
  from: number
  until: number
}

/** More than any wait sees. What the oldest ones have held back is told as a wait for the rate. */
const mostKept = 32

export class Penalties {
  private readonly kept: Array<Penalty> = []

  note(key: string | undefined, from: number, until: number): void {
    this.kept.push({ key, from, until })
    if (this.kept.length > mostKept) this.kept.shift()
  }

  /** The penalties of a key are over. */
  end(key: string | undefined, now: number): void {
    for (const penalty of this.kept) if (penalty.key === key) penalty.until = Math.min(penalty.until, now)
  }

  /** For how long a penalty held a key in a time. */
  within(key: string | undefined, from: number, to: number): number {
    let held = 0
    let seen = from
    // In the order of their beginnings.
    for (const penalty of this.kept) {
      if (penalty.key !== key) continue
      const since = Math.max(seen, penalty.from)
      const until = Math.min(to, penalty.until)
      if (until <= since) continue
      held += until - since
      seen = until
    }
    return held
  }

  /** The axis begins so many nanoseconds later. */
  shift(nanos: number): void {
    for (const penalty of this.kept) {
      penalty.from -= nanos
      penalty.until -= nanos
    }
  }
}
