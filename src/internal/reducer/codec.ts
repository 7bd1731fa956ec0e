/**
 * Results as text, for other processes. Compiling a codec costs fifty times what using it does, so one is kept for each
 * two schemas.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import { guarded } from "../data/guarded.js"
import { CodecError, ReducerError } from "./error.js"

export interface Codec<A, E, R> {
  /** Text of an exit; when it has none, text that says so to everybody, with the error. */
  readonly encode: (exit: Exit.Exit<A, E>) => Effect.Effect<string, ReducerError, R>
  readonly decode: (text: string) => Effect.Effect<Exit.Exit<A, E>, ReducerError, R>
}

const codecs = /*#__PURE__*/ new WeakMap<object, WeakMap<object, Codec<unknown, unknown, unknown>>>()

const failed = (operation: "encode" | "decode") => (cause: Schema.SchemaError | string) =>
  new ReducerError({ reason: new CodecError({ operation, cause }) })

/** A schema that throws has failed as well: the others are to hear of it, and not to run it again in vain. */
const attempt = <A, R>(
  operation: "encode" | "decode",
  coded: Effect.Effect<A, Schema.SchemaError, R>
): Effect.Effect<A, ReducerError, R> =>
  Effect.catchDefect(
    Effect.mapError(coded, failed(operation)),
    (defect) => Effect.fail(failed(operation)(guarded(() => String(defect), () => "a defect that is no text")))
  )

/** What is published in place of a result that could not be encoded, so that nobody runs it again in vain. */
export const unencodable = ({ reason }: ReducerError): string =>
  // Those who read it put the words of the error in front of the cause again.
  `!${String(reason._tag === "CodecError" ? reason.cause : reason.message).slice(0, 10_000)}`

/** Text that the store may carry. A character takes three bytes at most. */
export const bounded = (text: string, mostBytes: number): Effect.Effect<string, ReducerError> =>
  text.length * 3 <= mostBytes || (text.length <= mostBytes && new TextEncoder().encode(text).length <= mostBytes)
    ? Effect.succeed(text)
    : Effect.fail(failed("encode")(`it takes more than ${mostBytes} bytes, the maxResultBytes of its reducer`))

const make = <A extends Schema.Constraint, E extends Schema.Constraint>(schemas: {
  readonly success: A
  readonly error: E
}): Codec<
  A["Type"],
  E["Type"],
  A["DecodingServices"] | A["EncodingServices"] | E["DecodingServices"] | E["EncodingServices"]
> => {
  const schema = Schema.fromJsonString(Schema.toCodecJson(Schema.Exit(schemas.success, schemas.error, Schema.Defect())))
  const encode = Schema.encodeEffect(schema)
  const decode = Schema.decodeUnknownEffect(schema)
  return {
    encode: (exit) => attempt("encode", encode(exit)),
    decode: (text) =>
      text.startsWith("!")
        ? Effect.fail(failed("encode")(text.slice(1)))
        : attempt("decode", decode(text))
  }
}

/** The codec of a request's two schemas, whatever object they come in: it may be made anew each time it is asked for. */
export const codecOf = <A extends Schema.Constraint, E extends Schema.Constraint>(
  request: Persistable.Persistable<A, E>
) => {
  const { error, success } = request[Persistable.symbol]
  let bySuccess = codecs.get(success)
  if (bySuccess === undefined) codecs.set(success, bySuccess = new WeakMap())
  let codec = bySuccess.get(error)
  if (codec === undefined) bySuccess.set(error, codec = make({ success, error }) as Codec<unknown, unknown, unknown>)
  // The maps hold under each two schemas what was made from these two.
  return codec as ReturnType<typeof make<A, E>>
}
