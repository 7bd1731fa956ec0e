/**
 * The exits that a resolver keeps: bounded in number, the least recently used goes first, each with its own time to live.
 */
import type * as Exit from "effect/Exit"
import { KeyMap } from "../data/keyMap.js"
import type { Keyed } from "../data/keyMap.js"

/** One per isolated group of callers: what one of them was told is never told to another. */
export interface Shelf<A, E> {
  cached: KeyMap<Cached<A, E>>
  /** How many are on it. */
  kept: number
  /** Called when the last one is gone. */
  onEmpty(): void
}

export interface Cached<A, E> extends Keyed<Cached<A, E>> {
  readonly shelf: Shelf<A, E>
  readonly exit: Exit.Exit<A, E>
  readonly expires: number
  /** That of the cache while it is kept there. */
  era: object | undefined
  newer: Cached<A, E> | undefined
  older: Cached<A, E> | undefined
}

export class ExitCache<A, E> {
  size = 0
  private readonly capacity: number
  /** Another after each time that all of it was cleared. */
  private era = {}
  private newest: Cached<A, E> | undefined = undefined
  private oldest: Cached<A, E> | undefined = undefined

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get(shelf: Shelf<A, E>, key: unknown, hash: number, now: number): Exit.Exit<A, E> | undefined {
    const cached = shelf.cached.get(key, hash)
    if (cached === undefined || cached.era !== this.era) return undefined
    if (cached.expires <= now) {
      this.remove(cached)
      return undefined
    }
    if (cached !== this.newest) {
      this.unlink(cached)
      this.link(cached)
    }
    return cached.exit
  }

  set(shelf: Shelf<A, E>, key: unknown, hash: number, exit: Exit.Exit<A, E>, expires: number): void {
    // First of all, so that the shelf is not empty for a moment.
    shelf.kept++
    this.delete(shelf, key, hash)
    const cached: Cached<A, E> = {
      shelf,
      key,
      hash,
      exit,
      expires,
      era: this.era,
      chain: undefined,
      newer: undefined,
      older: undefined
    }
    shelf.cached.add(cached)
    this.link(cached)
    this.size++
    if (this.size > this.capacity) this.remove(this.oldest!)
  }

  delete(shelf: Shelf<A, E>, key: unknown, hash: number): void {
    const cached = shelf.cached.get(key, hash)
    // What compares keys may have cleared it.
    if (cached !== undefined && cached.era === this.era) this.remove(cached)
  }

  /** Empties the cache and the shelves that it has, however much they hold. */
  clear(shelves: ReadonlyArray<Shelf<A, E>>): void {
    this.era = {}
    this.size = 0
    this.newest = this.oldest = undefined
    for (const shelf of shelves) {
      if (shelf.kept === 0) continue
      shelf.cached = new KeyMap()
      shelf.kept = 0
      shelf.onEmpty()
    }
  }

  private remove(cached: Cached<A, E>): void {
    cached.era = undefined
    cached.shelf.cached.remove(cached)
    this.unlink(cached)
    this.size--
    if (--cached.shelf.kept === 0) cached.shelf.onEmpty()
  }

  private link(cached: Cached<A, E>): void {
    cached.older = this.newest
    cached.newer = undefined
    if (this.newest === undefined) this.oldest = cached
    else this.newest.newer = cached
    this.newest = cached
  }

  private unlink(cached: Cached<A, E>): void {
    if (cached.newer === undefined) this.newest = cached.older
    else cached.newer.older = cached.older
    if (cached.older === undefined) this.oldest = cached.newer
    else cached.older.newer = cached.newer
  }
}
