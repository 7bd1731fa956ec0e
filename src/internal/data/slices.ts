/**
 * Work of many pieces, done in slices: one slice at once, and one in each turn of the event loop after that.
 *
 * A piece runs foreign code, for instance of a fiber that it resumes, and may begin more work. All work that is nested in
 * one stack shares one slice.
 */
import type { SchedulerDispatcher } from "effect/Scheduler"
import { throwIn } from "./dispatcher.js"
import { guarded } from "./guarded.js"

/** Work that is done piece by piece. */
export interface Work {
  /** Continues the work in later turns. */
  readonly slices: Slices
  /** Whether a piece is left. Pieces may go by themselves, but none comes back. */
  readonly pending: boolean
  /** Does the next piece. It has to be taken away before foreign code is called, which may throw. */
  step(): void
  /** Called once, when no piece is left. */
  done(): void
}

/** How many pieces are done in one turn: one or two milliseconds for fibers that end when they are resumed. */
export const piecesPerTurn = 1024

// Work that begins in a piece of other work is nested in its stack. Deeper than this, the outermost one does it.
const maxDepth = 64
let depth = 0
let left = 0
let postponed: Array<Work> = []

type Thrown = { readonly error: unknown } | undefined

/** Begins with the work at once. Whatever a piece throws, the others are done; the first error is thrown in the end. */
export const begin = (work: Work): void => {
  if (depth > 0) {
    if (depth === maxDepth) {
      postponed.push(work)
      return
    }
  } else {
    left = piecesPerTurn
  }
  let thrown = advance(work)
  if (work.pending) postponed.push(work)
  if (depth === 0) thrown = settle(thrown)
  if (thrown !== undefined) throw thrown.error
}

const advance = (work: Work): Thrown => {
  let thrown: Thrown
  const step = () => work.step()
  const note = (error: unknown) => void (thrown ??= { error })
  depth++
  // The stack may overflow between two pieces: all later work depends on this count.
  try {
    while (left > 0 && work.pending) {
      left--
      guarded(step, note)
    }
    if (!work.pending) guarded(() => work.done(), note)
  } finally {
    depth--
  }
  return thrown
}

// Work that was nested too deep is done now; work that does not fit into this turn is left for later ones.
const settle = (thrown: Thrown): Thrown => {
  while (postponed.length > 0) {
    const works = postponed
    postponed = []
    for (const work of works) {
      const error = advance(work)
      thrown ??= error
      if (work.pending) work.slices.add(work)
    }
  }
  return thrown
}

/** Calls `f` with each one, in slices. */
export const forEachInSlices = <A>(
  slices: Slices,
  all: Iterable<A>,
  f: (each: A) => void,
  done: () => void = () => {}
): void => {
  const rest = all[Symbol.iterator]()
  let next = rest.next()
  begin({
    slices,
    get pending() {
      return next.done !== true
    },
    step: () => {
      const { value } = next
      next = rest.next()
      f(value)
    },
    done
  })
}

/** The work that is left for later turns, in order. */
export class Slices {
  private readonly rest = new Set<Work>()
  private readonly dispatcher: SchedulerDispatcher

  constructor(dispatcher: SchedulerDispatcher) {
    this.dispatcher = dispatcher
  }

  add(work: Work): void {
    this.rest.add(work)
    if (this.rest.size === 1) this.dispatcher.scheduleTask(this.turn, 0)
  }

  /** Does work that a caller does not answer for: an error is thrown in a turn of its own. */
  apart(f: () => void): void {
    guarded(f, (error) => throwIn(this.dispatcher, error))
  }

  /** Calls `tell` with each of those that are there now, in slices and apart. */
  tellEach<A>(all: Iterable<A>, tell: (each: A) => void, done?: () => void): void {
    const each = Array.from(all)
    this.apart(() => forEachInSlices(this, each, tell, done))
  }

  private readonly turn = (): void => {
    left = piecesPerTurn
    let thrown: Thrown
    for (const work of this.rest) {
      if (left === 0) break
      const error = advance(work)
      thrown ??= error
      if (!work.pending) this.rest.delete(work)
    }
    if (this.rest.size > 0) this.dispatcher.scheduleTask(this.turn, 0)
    const error = settle(thrown)
    if (error !== undefined) throw error.error
  }
}
