import { MixedScheduler, type Scheduler, type SchedulerDispatcher } from "effect/Scheduler"

/** A scheduler whose dispatchers run what was scheduled when they are told to, one turn at a time. */
export const makeManualScheduler = () => {
  let tasks: Array<() => void> = []
  const dispatcher: SchedulerDispatcher = {
    scheduleTask: (task) => void tasks.push(task),
    flush: () => {}
  }
  const scheduler: Scheduler = {
    executionMode: "async",
    shouldYield: (fiber) => new MixedScheduler().shouldYield(fiber),
    makeDispatcher: () => dispatcher
  }
  return {
    scheduler,
    dispatcher,
    get waiting() {
      return tasks.length
    },
    /** Runs what waits; what that schedules waits for the next turn. What a task throws is thrown in the end. */
    turn: () => {
      const now = tasks
      tasks = []
      const thrown: Array<unknown> = []
      for (const task of now) {
        try {
          task()
        } catch (error) {
          thrown.push(error)
        }
      }
      if (thrown.length > 0) throw thrown[0]
    }
  }
}
