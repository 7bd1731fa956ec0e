/**
 * Everything that suspends, under every schedule: a fiber that yields at whatever operation loses no wake-up.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Scheduler from "effect-funnel/Scheduler"
import { interruptionSweep, scheduleSweep, yieldSweep } from "./support/sweep.ts"
import type { Subject } from "./support/sweep.ts"

const sweep = <S, A, E>(name: string, subject: Subject<S, A, E>): void => {
  it(`a fiber that yields at any operation loses no wake-up: ${name}`, () => {
    expect(yieldSweep(subject)).toBeGreaterThan(5)
  })
  it(`tasks in any order give the right answer: ${name}`, () => {
    scheduleSweep(subject)
  })
  it(`interrupted at any operation it leaves nothing: ${name}`, () => {
    expect(interruptionSweep(subject)).toBeGreaterThan(5)
  })
}

const scheduler = (options: Scheduler.Options = { concurrency: 2 }) => Scheduler.make(options)

const idle = (self: Scheduler.Scheduler) =>
  Effect.map(self.stats, (stats) => expect(stats).toMatchObject({ running: 0, weight: 0, queued: 0 }))

const items = [1, 2, 3, 4, 5]
const job = (i: number) => Effect.as(i % 2 === 0 ? Effect.yieldNow : Effect.void, i)

/** Items that come one by one, with a yield in front of each. */
const slow = Stream.fromIterable(items).pipe(Stream.rechunk(1), Stream.mapEffect(job))

describe("Scheduler", () => {
  sweep("forEach", {
    make: scheduler(),
    subject: (_) => _.forEach(items, job),
    expected: items,
    check: idle
  })
  sweep("forEach of a stream", {
    make: scheduler(),
    subject: (_) => _.forEach(slow, job),
    expected: items,
    check: idle
  })
  sweep("stream", {
    make: scheduler(),
    subject: (_) => Stream.runCollect(_.stream(items, job, { order: "input" }).pipe(Stream.mapEffect(job))),
    expected: items,
    check: idle
  })
  sweep("stream of a stream", {
    make: scheduler(),
    subject: (_) => Effect.map(Stream.runCollect(_.stream(slow, job)), (all) => all.toSorted()),
    expected: items,
    check: idle
  })
  sweep("mapEffect", {
    make: scheduler(),
    subject: (_) => Effect.map(Stream.runCollect(slow.pipe(_.mapEffect(job))), (all) => all.toSorted()),
    expected: items,
    check: idle
  })
})
