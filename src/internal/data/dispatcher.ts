/**
 * The dispatcher for steps that outlive the fiber that starts them.
 */
import * as Context from "effect/Context"
import * as Scheduler from "effect/Scheduler"
import { guarded } from "./guarded.js"

/**
 * A dispatcher of the scheduler in a context, unless that is `runSync`'s: its turns are microtasks, which hold up the event loop.
 *
 * A task that throws would take those behind it along: core drops them. So the error is thrown in a turn of its own.
 */
export const dispatcherIn = (context: Context.Context<never>): Scheduler.SchedulerDispatcher => {
  const found = Context.get(context, Scheduler.Scheduler)
  const scheduler = found.executionMode === "sync" ? new Scheduler.MixedScheduler() : found
  const dispatcher = scheduler.makeDispatcher()
  const rethrow = (error: unknown): void => throwIn(scheduler.makeDispatcher(), error)
  return {
    scheduleTask: (task, priority) => dispatcher.scheduleTask(() => guarded(task, rethrow), priority),
    flush: () => dispatcher.flush()
  }
}

/** Throws an error in a turn of its own, where it hurts nobody else. */
export const throwIn = (dispatcher: Scheduler.SchedulerDispatcher, error: unknown): void =>
  dispatcher.scheduleTask(() => {
    throw error
  }, 0)
