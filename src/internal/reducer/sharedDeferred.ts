/**
 * A `Deferred` whose callers join and leave in constant time, and which knows when the last one has left.
 *
 * The waiters are a doubly linked list, and a waiter is the effect that its own interruption runs, so that a suspended
 * caller costs one object beyond what `Effect.callback` needs. Subclasses say what happens when nobody waits any more.
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type * as Exit from "effect/Exit"
import { begin, type Slices, type Work } from "../data/slices.js"

/** Resumes a suspended caller; what `Effect.callback` hands to its register function. */
export type Resume<A, E> = (effect: Effect.Effect<A, E>) => void

/** One suspended caller. As an effect, it leaves: return it from the register function of `Effect.callback`. */
export class Waiter<A, E> extends Effectable.Class<void> {
  readonly resume: Resume<A, E>
  /** What it waits for; undefined as soon as it has its exit or has left. */
  shared: SharedDeferred<A, E> | undefined
  previous: Waiter<A, E> | undefined = undefined
  next: Waiter<A, E> | undefined = undefined

  constructor(shared: SharedDeferred<A, E>, resume: Resume<A, E>) {
    super()
    this.shared = shared
    this.resume = resume
  }

  // Core also runs the cancel effect of a caller that was resumed with an interruption, which is no departure.
  asEffect(): Effect.Effect<void> {
    return this.shared === undefined ? Effect.void : this.shared.leave(this)
  }
}

/** See the module. */
export abstract class SharedDeferred<A, E> implements Work {
  abstract readonly slices: Slices
  exit: Exit.Exit<A, E> | undefined = undefined
  /** How many callers wait, those included that are counted but not suspended yet. */
  callers = 0
  head: Waiter<A, E> | undefined = undefined
  private tail: Waiter<A, E> | undefined = undefined

  /** The last caller has left before there was an exit; the leaving caller goes on when the returned effect is done. */
  protected abstract abandoned(): Effect.Effect<void>

  /** Called in the step in which a waiter gets its exit or leaves. */
  protected released(_waiter: Waiter<A, E>): void {}

  /** Appends a waiter. Whoever does it has to have counted the caller: `callers++` and the check belong to one step. */
  append(waiter: Waiter<A, E>): Waiter<A, E> {
    waiter.previous = this.tail
    if (this.tail === undefined) {
      this.head = waiter
    } else {
      this.tail.next = waiter
    }
    this.tail = waiter
    return waiter
  }

  leave(waiter: Waiter<A, E>): Effect.Effect<void> {
    if (waiter.previous === undefined) {
      this.head = waiter.next
    } else {
      waiter.previous.next = waiter.next
    }
    if (waiter.next === undefined) {
      this.tail = waiter.previous
    } else {
      waiter.next.previous = waiter.previous
    }
    waiter.shared = waiter.previous = waiter.next = undefined
    this.callers--
    this.released(waiter)
    return this.callers === 0 && this.exit === undefined ? this.abandoned() : Effect.void
  }

  /**
   * Gives the exit to all who wait, in the order in which they came: at once to as many as fit into this turn of the event
   * loop, to the others in turns to come. The first exit is the one that counts.
   */
  complete(exit: Exit.Exit<A, E>): void {
    if (this.exit !== undefined) return
    this.exit = exit
    this.deliver()
  }

  /** Resumes those who wait; there has to be an exit. */
  protected deliver(): void {
    if (this.head === undefined) {
      this.done()
    } else {
      begin(this)
    }
  }

  get pending(): boolean {
    return this.head !== undefined
  }

  // A caller that is resumed may interrupt others, which then leave the list: begin at its head each time.
  step(): void {
    const waiter = this.head!
    this.head = waiter.next
    if (this.head === undefined) {
      this.tail = undefined
    } else {
      this.head.previous = undefined
    }
    waiter.shared = waiter.next = undefined
    this.callers--
    this.released(waiter)
    waiter.resume(this.exit!)
  }

  /** All have their exit, or have left meanwhile. */
  done(): void {}
}
