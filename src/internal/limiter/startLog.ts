/**
 * The last starts of one key, in the order in which they were granted, for quotas that are judged by actual starts.
 *
 * A start is a time and its tokens, 16 bytes. One that was granted and has not begun has the time `Infinity`, so that
 * nobody gets its place. Of each quota's last `limit` tokens the log knows when they began; what is older had begun a window
 * before the grant that pushed it out. So of any starts of one quota with more than `limit` tokens the last one granted
 * began a window after another of them: no half-open window holds more, in whatever order they begin.
 */
import type { Rate } from "./gcra.js"

/** What one quota counts. */
interface View {
  readonly limit: number
  readonly window: number
  /** The first start that it counts. */
  first: number
  /** The tokens from there on. */
  held: number
}

export class StartLog {
  private times = new Float64Array(4)
  private tokens = new Float64Array(4)
  /** Counts starts. */
  private next = 0
  /** Where what is kept begins. */
  private oldest = 0
  /** One for each rate that is strict, by its place among the rates. */
  private views: ReadonlyArray<View | undefined>
  private pending = 0
  private last = -Infinity
  private longest: number

  constructor(rates: ReadonlyArray<Rate>) {
    this.views = rates.map(({ limit, strict, window }) => strict ? { limit, window, first: 0, held: 0 } : undefined)
    this.longest = longestWindow(rates)
  }

  /** When no window holds anything any more; `Infinity` while something granted has not begun. */
  get restAt(): number {
    return this.pending > 0 ? Infinity : this.last + this.longest
  }

  /** Adds a start, which begins `at` or, if that is `Infinity`, when `begin` tells. Returns its number. */
  push(at: number, tokens: number): number {
    let oldest = this.next
    for (const view of this.views) {
      if (view === undefined) continue
      view.held += tokens
      while (view.held > view.limit && view.first < this.next) {
        view.held -= this.tokens[view.first % this.tokens.length]!
        view.first++
      }
      if (view.first < oldest) oldest = view.first
    }
    this.oldest = oldest
    if (this.next - oldest === this.times.length) this.grow()
    const place = this.next % this.times.length
    this.times[place] = at
    this.tokens[place] = tokens
    if (at === Infinity) this.pending++
    else this.last = at
    return this.next++
  }

  /**
   * A start that was granted begins. It is still here, and in every view: no grant conforms that would push out a start which
   * has not begun.
   */
  begin(start: number, at: number): void {
    this.pending--
    this.last = at
    this.times[start % this.times.length] = at
  }

  /** A start that was granted never begins. */
  forget(start: number): void {
    this.pending--
    const place = start % this.times.length
    for (const view of this.views) if (view !== undefined) view.held -= this.tokens[place]!
    this.times[place] = -Infinity
    this.tokens[place] = 0
  }

  /** When so many tokens more are within the limits, if what has not begun begins at `pending`. */
  dueAt(tokens: number, pending: number): number {
    let due = -Infinity
    for (const view of this.views) if (view !== undefined) due = Math.max(due, this.dueIn(view, tokens, pending))
    return due
  }

  /** The same for the quota at one place only; `-Infinity` when that is not strict. */
  dueFor(place: number, tokens: number, pending: number): number {
    const view = this.views[place]
    return view === undefined ? -Infinity : this.dueIn(view, tokens, pending)
  }

  /** How many tokens the quota at one place has left. */
  remaining(place: number, now: number): number {
    const view = this.views[place]
    if (view === undefined) return Infinity
    while (view.first < this.next && this.times[view.first % this.times.length]! + view.window <= now) {
      view.held -= this.tokens[view.first % this.tokens.length]!
      view.first++
    }
    return Math.max(0, view.limit - view.held)
  }

  /** Counts for other quotas what is kept. */
  requote(rates: ReadonlyArray<Rate>): void {
    const before = this.views
    this.views = rates.map(({ limit, strict, window }): View | undefined => {
      if (!strict) return undefined
      const known = before.find((view) => view !== undefined && view.limit === limit && view.window === window)
      if (known !== undefined) return known
      let held = 0
      for (let i = this.oldest; i < this.next; i++) held += this.tokens[i % this.tokens.length]!
      return { limit, window, first: this.oldest, held }
    })
    this.longest = longestWindow(rates)
  }

  /** A log to try out what comes. */
  copy(): StartLog {
    const log = new StartLog([])
    log.times = this.times.slice()
    log.tokens = this.tokens.slice()
    log.next = this.next
    log.oldest = this.oldest
    log.views = this.views.map((view) => view && { ...view })
    return log
  }

  /** Moves all times back. */
  shift(nanos: number): void {
    for (let i = 0; i < this.times.length; i++) this.times[i]! -= nanos
    this.last -= nanos
  }

  private dueIn(view: View, tokens: number, pending: number): number {
    let excess = view.held + tokens - view.limit
    let latest = -Infinity
    for (let i = view.first; excess > 0 && i < this.next; i++) {
      const place = i % this.times.length
      const at = this.times[place]!
      latest = Math.max(latest, at === Infinity ? pending : at)
      excess -= this.tokens[place]!
    }
    return latest + view.window
  }

  private grow(): void {
    const size = this.times.length
    const times = new Float64Array(2 * size)
    const tokens = new Float64Array(2 * size)
    for (let i = this.oldest; i < this.next; i++) {
      times[i % (2 * size)] = this.times[i % size]!
      tokens[i % (2 * size)] = this.tokens[i % size]!
    }
    this.times = times
    this.tokens = tokens
  }
}

const longestWindow = (rates: ReadonlyArray<Rate>): number =>
  rates.reduce((longest, { strict, window }) => strict ? Math.max(longest, window) : longest, 0)
