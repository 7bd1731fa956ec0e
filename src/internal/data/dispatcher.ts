/**
 * The dispatcher for steps that outlive the fiber that starts them.
 */
import * as Context from "effect/Context"
import * as Scheduler from "effect/Scheduler"

/** A dispatcher of the scheduler in a context, unless that is `runSync`'s: its turns are microtasks, which hold up the event loop. */
export const dispatcherIn = (context: Context.Context<never>): Scheduler.SchedulerDispatcher => {
  const scheduler = Context.get(context, Scheduler.Scheduler)
  return (scheduler.executionMode === "sync" ? new Scheduler.MixedScheduler() : scheduler).makeDispatcher()
}
