/**
 * The waiters of one key in order of arrival, for a limiter in memory and over a store.
 */
import * as List from "../data/list.js"
import { leastOf, type Tokens } from "./gcra.js"
import type { StoreError, Waiter } from "./limiter.js"

/** The place of a waiter. */
export class Place implements List.Member<Place> {
  readonly waiter: Waiter<StoreError>
  readonly line: Line
  before: Place | undefined = undefined
  after: Place | undefined = undefined
  constructor(waiter: Waiter<StoreError>, line: Line) {
    this.waiter = waiter
    this.line = line
  }
}

export class Line implements List.List<Place> {
  first: Place | undefined = undefined
  last: Place | undefined = undefined
  /** The tokens of all waiters; of lists, the least number. */
  queued = 0
  /** Whether a list of several numbers has waited: `queued` may count less of it than one quota does. */
  hasLists = false

  /** Adds a waiter at the end, or in the place of another one, which is withdrawn. */
  add(waiter: Waiter<StoreError>, former?: Place | undefined): void {
    const place = new Place(waiter, this)
    if (former === undefined) {
      List.append(this, place)
    } else {
      List.replace(this, former, place)
      this.queued -= leastOf(former.waiter.tokens)
      former.waiter.link = undefined
    }
    waiter.link = place
    this.queued += leastOf(waiter.tokens)
    if (typeof waiter.tokens !== "number" && waiter.tokens.length > 1) this.hasLists = true
  }

  remove(place: Place): void {
    List.remove(this, place)
    this.queued -= leastOf(place.waiter.tokens)
    place.waiter.link = undefined
  }

  shift(): Waiter<StoreError> | undefined {
    const { first } = this
    if (first !== undefined) this.remove(first)
    return first?.waiter
  }

  *waiters(): Generator<Waiter<StoreError>> {
    for (let place = this.first; place !== undefined; place = place.after) yield place.waiter
  }

  /** Takes out the waiters whose tokens exceed the burst. */
  removeLarger(exceeds: (tokens: Tokens) => boolean): Array<Waiter<StoreError>> {
    const larger: Array<Waiter<StoreError>> = []
    for (let place = this.first; place !== undefined;) {
      const { after, waiter } = place
      if (exceeds(waiter.tokens)) {
        this.remove(place)
        larger.push(waiter)
      }
      place = after
    }
    return larger
  }
}
