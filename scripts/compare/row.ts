/** One row of the comparison, and helpers to observe its programs. */
import { Cause, Context, Effect, Exit, type Fiber, Layer, Scope } from "effect"

export interface Seen {
  /** The observation, in a few words. */
  readonly seen: string
  /** Whether Funnel keeps its promise. */
  readonly holds: boolean
}

export interface Row {
  readonly part: string
  readonly what: string
  readonly effect: () => Promise<string>
  readonly funnel: () => Promise<Seen>
  /** The test that verifies Funnel's side. */
  readonly test: string
}

export const counted = (n: number, of: string): string => `${n} ${of}${n === 1 ? "" : "s"}`
export const like = (seen: string, promised: string): Seen => ({ seen, holds: seen === promised })

/** Builds the service of a layer and keeps it for the life of the process. */
export const build = <I, S>(tag: Context.Key<I, S>, layer: Layer.Layer<I>): S =>
  Effect.runSync(Effect.map(Layer.buildWithScope(layer, Scope.makeUnsafe()), (context) => Context.get(context, tag)))

/** Lets everything run that needs no time, promise callbacks and other fibers included. */
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

/** Describes how an effect that needs no time ends. If it has not ended when nothing is left to run, it never will. */
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

/** Describes how several effects end. Equal results are reported once. */
export const endings = async (effects: ReadonlyArray<() => Effect.Effect<unknown, unknown>>): Promise<string> => {
  const all: Array<string> = []
  for (const effect of effects) all.push(await ending(effect))
  return new Set(all).size === 1 ? all[0]! : all.join(", ")
}
