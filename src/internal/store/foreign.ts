/**
 * A store that may be anybody's. A command that throws, dies or interrupts itself has failed, and so has one whose answer
 * makes no sense: the service behind it never waits for an answer that does not come.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constFalse } from "effect/Function"
import { guarded } from "../data/guarded.js"
import type { Cell, DirectGcraStore, Taken } from "./gcraStore.js"
import type { Acquired, PermitStore } from "./permitStore.js"
import type { Joined, ReducerStore, Signal } from "./reducerStore.js"
import { StoreError } from "./storeError.js"

/** The types of an answer promise what its store may not keep. */
type Sensible<A> = (answer: A) => boolean

const anything: Sensible<void> = () => true

const failed = (operation: string, cause: unknown) => Exit.fail(new StoreError({ operation, cause }))

const judged = <A>(
  operation: string,
  exit: Exit.Exit<A, StoreError>,
  sensible: Sensible<A>
): Exit.Exit<A, StoreError> => {
  if (Exit.isFailure(exit)) return Cause.hasFails(exit.cause) ? exit : failed(operation, Cause.squash(exit.cause))
  // It may hold a result or a key, which no log is to have: the error names its type alone.
  return guarded(() => sensible(exit.value), constFalse)
    ? exit
    : failed(operation, new Error(`the answer makes no sense: it is of type ${typeof exit.value}`))
}

const command = <A>(
  operation: string,
  send: () => Effect.Effect<A, StoreError>,
  sensible: Sensible<A>
): Effect.Effect<A, StoreError> => {
  const sent = Effect.suspend(() => {
    const effect = send()
    // Core would end the fiber without a word to the rest of it.
    return Effect.isEffect(effect) ? effect : failed(operation, new Error("the command is no effect"))
  })
  return Effect.matchCauseEffect(sent, {
    onFailure: (cause) => judged(operation, Exit.failCause(cause), sensible),
    onSuccess: (answer) => judged(operation, Exit.succeed(answer), sensible)
  })
}

const isNumber = (n: number): boolean => typeof n === "number" && !Number.isNaN(n)
const isTime = (n: number): boolean => isNumber(n) && Number.isFinite(n) && n >= 0
const isBoolean: Sensible<boolean> = (u) => typeof u === "boolean"

const isTaken = (asked: number, cells: number): Sensible<Taken> => (taken) => {
  const { after, before, remaining, resetMillis, retryMillis, tightest, waits } = taken
  // One that grants less and tells no time would be asked again at once, for ever.
  return (waits.length === asked || (waits.length < asked && retryMillis > 0)) && waits.every(Number.isFinite)
    && isTime(retryMillis) && isTime(resetMillis)
    && isNumber(remaining) && Number.isInteger(tightest) && tightest >= 0 && tightest < cells
    && typeof before === "string" && typeof after === "string"
}

export const gcraStore = (store: DirectGcraStore, cells: ReadonlyArray<Cell>): DirectGcraStore => {
  const { takeUnsafe } = store
  return {
    take: (key, tokens, most) =>
      command("take", () => store.take(key, tokens, most), isTaken(tokens.length, cells.length)),
    takeUnsafe: takeUnsafe && ((key, tokens, most, answer) =>
      takeUnsafe(
        key,
        tokens,
        most,
        (exit) => answer(judged("take", exit, isTaken(tokens.length, cells.length)))
      )),
    giveBack: (key, tokens, after) => command("giveBack", () => store.giveBack(key, tokens, after), anything),
    penalize: (key, millis) => command("penalize", () => store.penalize(key, millis), anything),
    reset: (key) => command("reset", () => store.reset(key), anything)
  }
}

const isAcquired = (asked: number): Sensible<Acquired> => ({ granted, penaltyMillis, pollMillis }) =>
  Number.isInteger(granted) && granted >= 0 && granted <= asked && isNumber(pollMillis) && isTime(penaltyMillis)

export const permitStore = (store: PermitStore): PermitStore => ({
  leaseMillis: store.leaseMillis,
  node: store.node,
  close: () => store.close(),
  acquire: (permits, limit) => command("acquire", () => store.acquire(permits, limit), isAcquired(permits.length)),
  renew: (permits, limit) => command("renew", () => store.renew(permits, limit), Array.isArray),
  release: (remaining) => command("release", () => store.release(remaining), anything),
  penalize: (millis) => command("penalize", () => store.penalize(millis), anything)
})

const isJoined: Sensible<Joined> = (joined) =>
  Number.isSafeInteger(joined.fence) &&
  (joined._tag === "Lead" ||
    (joined._tag === "Follow" && isNumber(joined.restMillis)) ||
    (joined._tag === "Done" && typeof joined.payload === "string"))

const isDone: Sensible<Signal> = (signal) =>
  signal._tag === "Done" && Number.isSafeInteger(signal.fence) &&
  (signal.payload === undefined || typeof signal.payload === "string")

export const reducerStore = (store: ReducerStore): ReducerStore => ({
  leaseMillis: store.leaseMillis,
  // Any other signal is one to join again.
  open: (onSignal) =>
    store.open((signal) => onSignal(guarded(() => isDone(signal), constFalse) ? signal : { _tag: "Retry" })),
  join: (key, party, after) => command("join", () => store.join(key, party, after), isJoined),
  renew: (key, party, fence) => command("renew", () => store.renew(key, party, fence), isBoolean),
  complete: (key, party, fence, payload) =>
    command("complete", () => store.complete(key, party, fence, payload), isBoolean),
  release: (key, party) => command("release", () => store.release(key, party), anything)
})
