/**
 * Where what outlives the fiber that makes it schedules its steps.
 */
import type { Fiber } from "effect/Fiber"
import { MixedScheduler, type SchedulerDispatcher } from "effect/Scheduler"

/** A dispatcher of the fiber's scheduler, unless that is `runSync`'s: its turns are microtasks, which hold up the event loop. */
export const dispatcherOf = (fiber: Fiber<unknown, unknown>): SchedulerDispatcher => {
  const { scheduler } = fiber.cache
  return (scheduler.executionMode === "sync" ? new MixedScheduler() : scheduler).makeDispatcher()
}
