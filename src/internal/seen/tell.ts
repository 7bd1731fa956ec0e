/**
 * What a service tells on spans and in logs: nothing, unless a layer switched that on.
 */
import * as Context from "effect/Context"
import type { Place } from "../data/timers.js"
import type { Log } from "./logs.js"
import type { Account, Hold, LimiterSpans, Spans } from "./spans.js"

// Types alone: only the layers that switch them on import their code.
export type { Account, Hold, LimiterSpans, Log, Spans }

/** What is `undefined` unless a layer provides it. */
export const switched = <A>(key: string): Context.Reference<A | undefined> =>
  Context.Reference<A | undefined>(key, { defaultValue: () => undefined })

export const Tracing: Context.Reference<Spans | undefined> = /*#__PURE__*/ switched("effect-funnel/Tracing")

export const Logging: Context.Reference<((name: string, place: Place) => Log) | undefined> = /*#__PURE__*/ switched(
  "effect-funnel/Logging"
)

/** What logs for a service that is built at a place. */
export const logOf = (name: string, place: Place): Log | undefined => Context.get(place.context, Logging)?.(name, place)
