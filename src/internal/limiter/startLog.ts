/**
 * The last starts of one key in the order of their grants, for quotas that are judged by actual starts.
 *
 * A start is a time and its tokens, 16 bytes. A start that was granted and has not begun has the time `Infinity`, so that it
 * keeps its place. The log holds the last `limit` tokens of each quota. A grant that pushes out an older start comes at
 * least a window after it. So among any starts of more than `limit` tokens the last grant began a window after another one:
 * no half-open window holds more, in whatever order they begin.
 */
import { type Rate, type Tokens, tokensOf } from "./gcra.js"

/** The part of the log that one quota counts. */
interface View {
  readonly limit: number
  readonly window: number
  /** The number of its first start. */
  first: number
  /** The tokens from there on. */
  held: number
}

export class StartLog {
  private times = new Float64Array(4)
  private tokens: Array<Tokens> = [0, 0, 0, 0]
  /** The number of the next start. */
  private next = 0
  /** The number of the oldest start that is kept. */
  private oldest = 0
  /** By the index of the rate; `undefined` if that is not strict. */
  private views: ReadonlyArray<View | undefined> = []
  private pending = 0
  private last = -Infinity

  constructor(rates: ReadonlyArray<Rate>) {
    this.requote(rates)
  }

  /** When no window holds a start any more; `Infinity` while a granted start has not begun. */
  get restAt(): number {
    if (this.pending > 0) return Infinity
    return this.views.reduce(
      (rest, view) => view === undefined ? rest : Math.max(rest, this.last + view.window),
      -Infinity
    )
  }

  /** Adds a start at `now`, or one that begins later, and returns its number. */
  push(now: number, tokens: Tokens, later = false): number {
    let oldest = this.next
    for (let i = 0; i < this.views.length; i++) {
      const view = this.views[i]
      if (view === undefined) continue
      const n = tokensOf(tokens, i)
      const most = n === 0 ? Infinity : view.limit
      view.held += n
      // A debt holds more than the limit. A start that takes nothing has not waited until that leaves the window.
      while (view.held > most && view.first < this.next) {
        view.held -= this.tokensAt(view.first, i)
        view.first++
      }
      if (view.first < oldest) oldest = view.first
    }
    this.oldest = oldest
    if (this.next - oldest === this.times.length) this.makeRoom(now)
    const place = this.next % this.times.length
    this.times[place] = later ? Infinity : now
    this.tokens[place] = tokens
    if (later) this.pending++
    else this.last = now
    return this.next++
  }

  /** Sets the time of a granted start. Every view still has it: no grant pushes out a start that has not begun. */
  begin(start: number, at: number): void {
    this.pending--
    this.last = at
    this.times[start % this.times.length] = at
  }

  /** Takes out a granted start that never begins. */
  forget(start: number): void {
    this.pending--
    const place = start % this.times.length
    this.views.forEach((view, i) => void (view !== undefined && (view.held -= this.tokensAt(start, i))))
    this.times[place] = -Infinity
    this.tokens[place] = 0
  }

  /** Changes the tokens of a start, where they still count. */
  correct(start: number, tokens: Tokens): void {
    let counts = false
    this.views.forEach((view, i) => {
      if (view === undefined || view.first > start) return
      counts = true
      view.held += tokensOf(tokens, i) - this.tokensAt(start, i)
    })
    if (counts) this.tokens[start % this.times.length] = tokens
  }

  private tokensAt(start: number, i: number): number {
    return tokensOf(this.tokens[start % this.tokens.length]!, i)
  }

  /** When more tokens are within the limits, if the starts that have not begun begin at `pending`. */
  dueAt(tokens: Tokens, pending: number): number {
    let due = -Infinity
    for (let i = 0; i < this.views.length; i++) due = Math.max(due, this.dueFor(i, tokensOf(tokens, i), pending))
    return due
  }

  /** `dueAt` for one quota; `-Infinity` if it is not strict. */
  dueFor(place: number, tokens: number, pending: number): number {
    const view = this.views[place]
    if (view === undefined || tokens === 0) return -Infinity
    let excess = view.held + tokens - view.limit
    let latest = -Infinity
    for (let i = view.first; excess > 0 && i < this.next; i++) {
      const at = this.times[i % this.times.length]!
      latest = Math.max(latest, at === Infinity ? pending : at)
      excess -= this.tokensAt(i, place)
    }
    return latest + view.window
  }

  /** How many tokens one quota has left. */
  remaining(place: number, now: number): number {
    const view = this.views[place]
    if (view === undefined) return Infinity
    this.expire(view, place, now)
    return Math.max(0, view.limit - view.held)
  }

  /** Drops the starts that have left the window. */
  private expire(view: View, place: number, now: number): void {
    while (view.first < this.next && this.times[view.first % this.times.length]! + view.window <= now) {
      view.held -= this.tokensAt(view.first, place)
      view.first++
    }
  }

  /** Counts the log for other quotas. */
  requote(rates: ReadonlyArray<Rate>): void {
    const before = this.views
    this.views = rates.map(({ limit, strict, window }, place): View | undefined => {
      if (!strict) return undefined
      const known = before.find((view) => view !== undefined && view.limit === limit && view.window === window)
      const first = known === undefined ? this.oldest : known.first
      let held = 0
      for (let i = first; i < this.next; i++) held += this.tokensAt(i, place)
      return { limit, window, first, held }
    })
  }

  /** Copies the log, to try out grants. */
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

  /** A start that took nothing, or gave it back, pushes no other one out: of more starts than tokens it keeps a window. */
  private makeRoom(now: number): void {
    const size = this.times.length
    if (this.views.every((view) => view === undefined || view.limit < size)) {
      this.oldest = this.next
      this.views.forEach((view, place) => {
        if (view === undefined) return
        this.expire(view, place, now)
        this.oldest = Math.min(this.oldest, view.first)
      })
      if (this.next - this.oldest < size) return
    }
    const times = new Float64Array(2 * size)
    const tokens = new Array<Tokens>(2 * size).fill(0)
    for (let i = this.oldest; i < this.next; i++) {
      times[i % (2 * size)] = this.times[i % size]!
      tokens[i % (2 * size)] = this.tokens[i % size]!
    }
    this.times = times
    this.tokens = tokens
  }
}
