/**
 * Interrupts each operation on many items at every one of its steps: nothing may be left behind.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Scheduler from "effect-funnel/Scheduler"
import { interruptionSweep } from "./support/interruptionSweep.ts"

interface Fixture {
  readonly scheduler: Scheduler.Scheduler
  opened: number
  closed: number
  returned: number
}

const make = Effect.map(
  Scheduler.make({ concurrency: 2, maxQueued: 1 }),
  (scheduler): Fixture => ({ scheduler, opened: 0, closed: 0, returned: 0 })
)

/** A job with a finalizer, that waits once. */
const job = (fixture: Fixture) => (i: number): Effect.Effect<number> =>
  Effect.acquireUseRelease(
    Effect.sync(() => fixture.opened++),
    () => Effect.as(i % 2 === 0 ? Effect.yieldNow : Effect.void, i),
    () => Effect.sync(() => fixture.closed++)
  )

/** Counts as opened once pulled, as closed once ended or closed. */
function* items(fixture: Fixture): Generator<number> {
  fixture.opened++
  try {
    for (let i = 0; i < 5; i++) yield i
  } finally {
    fixture.closed++
  }
}

const resource = (fixture: Fixture) =>
  Stream.unwrap(Effect.as(
    Effect.acquireRelease(
      Effect.sync(() => fixture.opened++),
      () => Effect.sync(() => fixture.closed++)
    ),
    Stream.fromIterable([1, 2, 3])
  ))

const check = (fixture: Fixture) =>
  Effect.gen(function*() {
    expect(yield* fixture.scheduler.stats).toMatchObject({ running: 0, queued: 0, weight: 0 })
    expect(fixture.closed).toBe(fixture.opened)
    expect(yield* fixture.scheduler.forEach([1, 2, 3], (i) => Effect.succeed(i))).toEqual([1, 2, 3])
  })

const subjects: Record<string, (fixture: Fixture) => Effect.Effect<unknown, unknown>> = {
  "forEach": (fixture) => fixture.scheduler.forEach(items(fixture), job(fixture)),
  "forEach that fails": (fixture) =>
    fixture.scheduler.forEach(items(fixture), (i) => i === 3 ? Effect.fail("no") : job(fixture)(i)),
  "forEach of a stream": (fixture) => fixture.scheduler.forEach(resource(fixture), job(fixture)),
  "forEach with progress": (fixture) =>
    fixture.scheduler.forEach(items(fixture), job(fixture), { onProgress: () => Effect.yieldNow }),
  "forEach inside a job": (fixture) =>
    fixture.scheduler.schedule(fixture.scheduler.forEach(items(fixture), job(fixture))),
  "stream": (fixture) => Stream.runDrain(fixture.scheduler.stream(items(fixture), job(fixture))),
  "stream of a stream": (fixture) => Stream.runDrain(fixture.scheduler.stream(resource(fixture), job(fixture))),
  "stream that is left early": (fixture) =>
    fixture.scheduler.stream(resource(fixture), job(fixture), { order: "input" }).pipe(Stream.take(1), Stream.runDrain),
  "all": (fixture) => fixture.scheduler.all({ a: job(fixture)(0), b: job(fixture)(1), c: job(fixture)(2) }),
  "firstSuccess": (fixture) =>
    fixture.scheduler.firstSuccess([Effect.fail("no"), job(fixture)(0), job(fixture)(1), job(fixture)(2)])
}

describe("S7 interrupted at whatever operation, a call leaves no permit, no place, no open resource", () => {
  for (const [name, subject] of Object.entries(subjects)) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const operations = yield* interruptionSweep({ make, subject, check, turns: 200 })
        expect(operations).toBeGreaterThan(20)
      }), 60_000)
  }
})

class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", { lookup: (_host: string) => ({ concurrency: 1 }) }) {}

describe("Scheduler.Keyed interrupted at whatever operation leaves no key behind", () => {
  const keyed: Record<string, Effect.Effect<unknown, unknown, Hosts>> = {
    schedule: Hosts.schedule("a", Effect.andThen(Effect.yieldNow, Hosts.schedule("a", Effect.void))),
    forEach: Effect.flatMap(Hosts.get("a"), (a) => a.forEach([1, 2], () => Effect.yieldNow)),
    stream: Effect.flatMap(Hosts.get("a"), (a) => Stream.runDrain(a.stream([1, 2], () => Effect.yieldNow)))
  }
  for (const [name, subject] of Object.entries(keyed)) {
    it.effect(name, () =>
      interruptionSweep({
        make: Effect.void,
        subject: () => subject,
        check: () => Effect.map(Hosts.size, (size) => expect(size).toBe(0)),
        turns: 200
      }).pipe(Effect.provide(Hosts.layer)), 60_000)
  }
})
