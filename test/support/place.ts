import { Clock, Context } from "effect"

/** The place of an engine or a timer outside of any fiber: no services, and the clock of the host. */
export const place = { context: Context.empty(), clock: Context.get(Context.empty(), Clock.Clock) }
