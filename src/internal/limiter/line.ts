/**
 * The waiters of one key in order of arrival, for a limiter in memory and over a store.
 */
import * as List from "../data/list.js"
import { leastOf, type Tokens } from "./gcra.js"
import type { Waiter } from "./limiter.js"

/** The place of a waiter. */
export class Place<E> implements List.Member<Place<E>> {
  readonly waiter: Waiter<E>
  readonly line: Line<E>
  before: Place<E> | undefined = undefined
  after: Place<E> | undefined = undefined
  constructor(waiter: Waiter<E>, line: Line<E>) {
    this.waiter = waiter
    this.line = line
  }
}

export class Line<E> implements List.List<Place<E>> {
  first: Place<E> | undefined = undefined
  last: Place<E> | undefined = undefined
  /** The tokens of all waiters; of lists, the least number. */
  queued = 0

  /** Adds a waiter at the end, or in the place of another one, which is withdrawn. */
  add(waiter: Waiter<E>, former?: Place<E> | undefined): void {
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
  }

  remove(place: Place<E>): void {
    List.remove(this, place)
    this.queued -= leastOf(place.waiter.tokens)
    place.waiter.link = undefined
  }

  shift(): Waiter<E> | undefined {
    const { first } = this
    if (first !== undefined) this.remove(first)
    return first?.waiter
  }

  *waiters(): Generator<Waiter<E>> {
    for (let place = this.first; place !== undefined; place = place.after) yield place.waiter
  }

  /** Takes out the waiters whose tokens exceed the burst. */
  removeLarger(exceeds: (tokens: Tokens) => boolean): Array<Waiter<E>> {
    const larger: Array<Waiter<E>> = []
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
