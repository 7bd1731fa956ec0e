/**
 * Errors that answer a call which is refused. They hold no stack: it would show the run loop of a fiber and none of its
 * callers, and capturing it costs ten times the refusal.
 */
import * as Data from "effect/Data"

const errors: ErrorConstructor & { stackTraceLimit?: number | undefined } = Error

/** Where `Error` is frozen, as under SES, nothing changes and stacks are captured. */
const isWritable = (): boolean => {
  const property = Object.getOwnPropertyDescriptor(errors, "stackTraceLimit")
  return property === undefined ? Object.isExtensible(errors) : property.writable === true
}

const writable = /*#__PURE__*/ isWritable()

/** `Data.TaggedError`, whose instances capture no stack: `stack` is their name and message alone. */
export const StacklessError = <Tag extends string>(tag: Tag): ReturnType<typeof Data.TaggedError<Tag>> => {
  // Sound: the arguments of core's constructor are optional.
  const Base = Data.TaggedError(tag) as new(fields?: Readonly<Record<string, unknown>>) => Error
  class Stackless extends Base {
    constructor(fields: Readonly<Record<string, unknown>> = {}) {
      // Without a message or a cause, the fields are all that core keeps, and it keeps them twice.
      const kept = "message" in fields || "cause" in fields ? fields : undefined
      const limit = errors.stackTraceLimit
      if (writable) errors.stackTraceLimit = 0
      try {
        super(kept)
      } finally {
        if (writable) errors.stackTraceLimit = limit
      }
      if (kept === undefined) Object.assign(this, fields)
    }
  }
  // Sound: the constructor hands on whatever fields its base takes, so it can be given any type that the base has.
  return Stackless as unknown as ReturnType<typeof Data.TaggedError<Tag>>
}
