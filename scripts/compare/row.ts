/** One row of the comparison, and what its programs are observed with. */
import { Cause, Context, Effect, Exit, type Fiber, Layer, Scope } from "effect"

export interface Seen {
  /** What was seen, in a few words. */
  readonly seen: string
  /** Whether it is what Funnel promises. */
  readonly holds: boolean
}

export interface Row {
  readonly part: string
  readonly what: string
  readonly effect: () => Promise<string>
  readonly funnel: () => Promise<Seen>
  /** The test that holds Funnel's side. */
  readonly test: string
}

export const counted = (n: number, of: string): string => `${n} ${of}${n === 1 ? "" : "s"}`
export const like = (seen: string, promised: string): Seen => ({ seen, holds: seen === promised })

/** The service of a layer, held for the life of the process. */
export const build = <I, S>(tag: Context.Key<I, S>, layer: Layer.Layer<I>): S =>
  Effect.runSync(Effect.map(Layer.buildWithScope(layer, Scope.makeUnsafe()), (context) => Context.get(context, tag)))

/** Lets everything that can run without time do so, promise callbacks and other fibers included. */
export const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 50; turn++) await new Promise<void>((resolve) => void setImmediate(resolve))
}

export const fork = <A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> => Effect.runFork(effect)

const exitOf = <A, E>(exit: Exit.Exit<A, E>): string => {
  if (Exit.isSuccess(exit)) return "returns"
  if (Cause.hasInterruptsOnly(exit.cause)) return "is interrupted"
  const error = Cause.squash(exit.cause)
  const reason = error instanceof Error && "reason" in error ? error.reason : error
  const name = reason instanceof Error ? reason.name : String(reason)
  return Cause.hasDies(exit.cause) ? name === "Error" ? "a defect" : `defect: ${name}` : name
}

/** How an effect ends that needs no time; what has not ended once nothing is left to run never will. */
export const ending = async <A, E>(effect: () => Effect.Effect<A, E>): Promise<string> => {
  let fiber
  try {
    fiber = fork(effect())
  } catch (error) {
    return error instanceof Error ? error.name : String(error)
  }
  await settle()
  const exit = fiber.pollUnsafe()
  if (exit === undefined) {
    fiber.interruptUnsafe()
    return "waits for ever"
  }
  return exitOf(exit)
}

/** What several effects end with, told once where it is the same. */
export const endings = async (effects: ReadonlyArray<() => Effect.Effect<unknown, unknown>>): Promise<string> => {
  const all: Array<string> = []
  for (const effect of effects) all.push(await ending(effect))
  return new Set(all).size === 1 ? all[0]! : all.join(", ")
}
