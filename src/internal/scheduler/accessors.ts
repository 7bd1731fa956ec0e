/**
 * The operations of a tag: each calls the operation of the handle that the tag provides.
 */
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { unwrap } from "../data/streams.js"
import type { Direct } from "./handle.js"
import { effectFirstOrLast, type Operations } from "./operations.js"
import { type AllOptions, checkDrain, checkPenalty, checkRate, checkWidth, itemOptions } from "./options.js"

/** A handle of ours takes checked options. A foreign one has `schedule` alone, though a `Layer.mock` has something for every name. */
type Handle = Operations<never> & Partial<Direct>

const isDirect = (handle: Handle): handle is Handle & Direct => Object.hasOwn(handle, "scheduleChecked")

/** The tag of a scheduler. */
interface Tag<Self> {
  use<A, E, R>(f: (handle: Handle) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Self>
}

// One by one, so that a bundle holds those that a program calls and no other. Nonsense throws where they are called.

export const schedule = <Self>(tag: Tag<Self>): Operations<Self>["schedule"] =>
  effectFirstOrLast((effect, options, given) =>
    tag.use((_) => isDirect(_) ? _.scheduleChecked(effect, options) : _.schedule(effect, given))
  )

export const resize = <Self>(tag: Tag<Self>): Operations<Self>["resize"] => (concurrency) => {
  checkWidth("Scheduler.resize", concurrency)
  return tag.use((_) => _.resize(concurrency))
}

export const setRate = <Self>(tag: Tag<Self>): Operations<Self>["setRate"] => (rate) => {
  checkRate(rate)
  return tag.use((_) => _.setRate(rate))
}

export const penalize = <Self>(tag: Tag<Self>): Operations<Self>["penalize"] => (options) => {
  checkPenalty(options)
  return tag.use((_) => _.penalize(options))
}

export const drain = <Self>(tag: Tag<Self>): Operations<Self>["drain"] => (options) => {
  checkDrain(options)
  return tag.use((_) => _.drain(options))
}

export const forEach = <Self>(tag: Tag<Self>): Operations<Self>["forEach"] => (items, f, options) => {
  itemOptions("Scheduler.forEach", options)
  return tag.use((_) => _.forEach(items, f, options))
}

// The conditional type of its result is the same on both sides, but for `Self`.
export const all = <Self>(tag: Tag<Self>): Operations<Self>["all"] =>
  ((arg: Iterable<never>, options?: AllOptions) => {
    itemOptions("Scheduler.all", options)
    return tag.use((_) => _.all(arg, options))
  }) as Operations<Self>["all"]

const through = <Self, A, E, R>(
  tag: Tag<Self>,
  f: (handle: Operations<never>) => Stream.Stream<A, E, R>
): Stream.Stream<A, E, R | Self> => unwrap(tag.use((handle) => Effect.succeed(f(handle))))

export const stream = <Self>(tag: Tag<Self>): Operations<Self>["stream"] => (items, f, options) => {
  itemOptions("Scheduler.stream", options)
  return through(tag, (_) => _.stream(items, f, options))
}

export const mapEffect = <Self>(tag: Tag<Self>): Operations<Self>["mapEffect"] => (f, options) => {
  itemOptions("Scheduler.mapEffect", options)
  return (self) => through(tag, (_) => _.mapEffect(f, options)(self))
}

export const firstSuccess = <Self>(tag: Tag<Self>): Operations<Self>["firstSuccess"] => (effects) =>
  tag.use((_) => _.firstSuccess(effects))

export const operations = <Self>(tag: Tag<Self>): Operations<Self> => ({
  schedule: schedule(tag),
  resize: resize(tag),
  setRate: setRate(tag),
  penalize: penalize(tag),
  drain: drain(tag),
  pause: tag.use((_) => _.pause),
  resume: tag.use((_) => _.resume),
  awaitIdle: tag.use((_) => _.awaitIdle),
  stats: tag.use((_) => _.stats),
  forEach: forEach(tag),
  all: all(tag),
  stream: stream(tag),
  mapEffect: mapEffect(tag),
  firstSuccess: firstSuccess(tag)
})
