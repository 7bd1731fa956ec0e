/**
 * What a service tells on spans and in logs: nothing, unless a layer switched that on.
 */
import * as Context from "effect/Context"
import type { Place } from "../data/timers.js"
import type { Log } from "./logs.js"
import type { Account, Hold, LimiterSpans, Spans } from "./spans.js"

// Types alone: only the layers that switch them on import their code.
export type { Account, Hold, LimiterSpans, Log, Spans }

export const Tracing: Context.Reference<Spans | undefined> = /*#__PURE__*/ Context.Reference<Spans | undefined>(
  "effect-funnel/Tracing",
  { defaultValue: () => undefined }
)

type Logs = (name: string, place: Place) => Log

export const Logging: Context.Reference<Logs | undefined> = /*#__PURE__*/ Context.Reference<Logs | undefined>(
  "effect-funnel/Logging",
  { defaultValue: () => undefined }
)

/** What logs for a service that is built at a place. */
export const logOf = (name: string, place: Place): Log | undefined => Context.get(place.context, Logging)?.(name, place)
