/**
 * Work of many pieces, done in slices: one slice at once, and one in each turn of the event loop after that.
 *
 * A piece runs foreign code, such as what a resumed fiber does next, and may bring more work with it. One slice is
 * shared by all that is nested in one stack.
 */
import type { SchedulerDispatcher } from "effect/Scheduler"
import { guarded } from "./guarded.js"

/** Something that is done piece by piece. */
export interface Work {
  /** Where what does not fit into this turn goes on. */
  readonly slices: Slices
  /** Whether a piece is left. Pieces may go by themselves, but none comes back. */
  readonly pending: boolean
  /** Does the next piece. It has to be taken away before foreign code is called, which may throw. */
  step(): void
  /** Called once, when no piece is left. */
  done(): void
}

/** How many pieces are done in one turn: of fibers that end in the step that resumes them, a millisecond's or two. */
export const piecesPerTurn = 1024

// Work that begins in a piece of other work is nested in its stack. Deeper than this, the outermost one does it.
const maxDepth = 64
let depth = 0
let left = 0
let postponed: Array<Work> = []

type Thrown = { readonly error: unknown } | undefined

/**
 * Begins with the work at once. Whatever a piece throws, the others are done; the first error is thrown in the end.
 */
export const begin = (work: Work): void => {
  if (depth > 0) {
    if (depth === maxDepth || left === 0) {
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
  while (left > 0 && work.pending) {
    left--
    guarded(step, note)
  }
  if (!work.pending) guarded(() => work.done(), note)
  depth--
  return thrown
}

// What was put off because it was nested too deep is done now; what does not fit any more is left for other turns.
const settle = (thrown: Thrown): Thrown => {
  while (postponed.length > 0) {
    const works = postponed
    postponed = []
    for (const work of works) {
      if (left > 0) {
        const error = advance(work)
        thrown ??= error
        if (!work.pending) continue
      }
      work.slices.add(work)
    }
  }
  return thrown
}

/** What is left for turns to come, in the order in which it was left. */
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
