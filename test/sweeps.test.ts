/**
 * Everything that suspends, under every schedule: whatever fiber yields at whatever operation, in whatever order the tasks
 * of a turn run, and wherever it is interrupted.
 */
import { describe, expect } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Layer, Request, Schema, Scope, Stream } from "effect"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import { reduceShared } from "effect-funnel/SharedReducer"
import * as Persistable from "effect/persistence/Persistable"
import { forkScoped as fork, turns } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"
import { type Subject, sweep } from "./support/sweep.ts"

const items = [1, 2, 3, 4, 5]

/** An effect that suspends, as does its finalizer, and that counts its running instances. */
const makeJob = () => {
  const job = {
    runs: 0,
    active: 0,
    most: 0,
    of: <A>(value: A) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          job.runs++
          job.most = Math.max(job.most, ++job.active)
        }),
        () => Effect.as(Effect.yieldNow, value),
        () => Effect.andThen(Effect.yieldNow, Effect.sync(() => job.active--))
      )
  }
  return job
}

describe("Reducer", () => {
  const make = Effect.map(Reducer.make(), (reducer) => ({ reducer, job: makeJob() }))
  const check = ({ job, reducer }: Effect.Success<typeof make>) =>
    Effect.gen(function*() {
      yield* turns
      expect(yield* reducer.inFlight).toEqual([])
      expect(job.active).toBe(0)
      expect(yield* reducer.reduce("key", Effect.succeed("new"))).toBe("new")
    })
  const both = { concurrency: "unbounded" } as const

  sweep("Reducer.reduce", {
    make,
    subject: ({ job, reducer }) => reducer.reduce("key", job.of(1)),
    expected: 1,
    check
  })
  sweep("callers that join a run", {
    make,
    subject: ({ job, reducer }) =>
      Effect.all([1, 2, 3].map(() => reducer.reduce("key", Effect.andThen(turns, job.of(1)))), both),
    expected: [1, 1, 1],
    check: (self) => Effect.andThen(check(self), Effect.sync(() => expect(self.job.most).toBeLessThanOrEqual(1)))
  })
  sweep("a caller that joins another's run, who does not notice", {
    make: Effect.gen(function*() {
      const self = yield* make
      const first = yield* fork(self.reducer.reduce("key", Effect.andThen(turns, self.job.of(1))))
      return { ...self, first }
    }),
    subject: ({ job, reducer }) => reducer.reduce("key", job.of(1)),
    expected: 1,
    check: (self) => Effect.andThen(Effect.map(Fiber.join(self.first), (_) => expect(_).toBe(1)), check(self))
  })
  sweep("a caller behind a run whose last caller left", {
    make: Effect.gen(function*() {
      const self = yield* make
      const first = yield* fork(self.reducer.reduce("key", self.job.of("value")))
      yield* fork(Fiber.interrupt(first))
      return self
    }),
    subject: ({ job, reducer }) => Effect.all([1, 2].map(() => reducer.reduce("key", job.of("value"))), both),
    expected: ["value", "value"],
    check: (self) => Effect.andThen(check(self), Effect.sync(() => expect(self.job.most).toBe(1)))
  })
  sweep("Reducer.forget beside calls", {
    make,
    subject: ({ job, reducer }) =>
      Effect.all([
        reducer.reduce("key", job.of(1)),
        Effect.andThen(reducer.forget("key"), reducer.reduce("key", job.of(1)))
      ], both),
    expected: [1, 1],
    check
  })
  sweep("runs that reduce other keys, around a detached one", {
    make,
    subject: ({ job, reducer }) =>
      reducer.reduce(
        "a",
        reducer.reduce("b", Effect.andThen(job.of(1), Reducer.detached(reducer.reduce("c", job.of(2)))))
      ),
    expected: 2,
    check
  })
  sweep("the end of a Reducer", {
    make: Effect.gen(function*() {
      const scope = yield* Scope.make()
      const reducer = yield* Scope.provide(Reducer.make(), scope)
      const job = makeJob()
      const callers = yield* Effect.forEach(["a", "a", "b"], (key) => fork(reducer.reduce(key, job.of(key))))
      return { scope, reducer, job, callers }
    }),
    subject: ({ scope }) => Effect.uninterruptible(Scope.close(scope, Exit.void)),
    expected: undefined,
    check: ({ callers, job, reducer }, exit) =>
      Effect.gen(function*() {
        if (exit._tag === "Failure") return
        yield* turns
        for (const caller of callers) expect(caller.pollUnsafe()).toBeDefined()
        expect(job.active).toBe(0)
        expect(yield* reducer.inFlight).toEqual([])
      })
  })

  class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
    primaryKey: (_) => _.id,
    success: Schema.Number
  }) {}
  sweep("reduceShared in one process", {
    make,
    subject: ({ job, reducer }) =>
      Effect.all(
        [1, 2].map(() => reduceShared(new GetUser({ id: "1" }), () => job.of(1))),
        both
      ).pipe(Effect.provideService(Reducer.Reducer, reducer)),
    expected: [1, 1],
    check
  })
})

describe("RateLimiter", () => {
  const make: Effect.Effect<RateLimiter.RateLimiter> = RateLimiter.make({ limit: 10, window: "1 second" })
  sweep("RateLimiter.consume", {
    make,
    subject: (limiter: RateLimiter.RateLimiter) =>
      Effect.map(
        Effect.all([1, 2, 3].map(() => limiter.consume()), { concurrency: "unbounded" }),
        (all) => all.map((result) => result.limit)
      ),
    expected: [10, 10, 10],
    check: (limiter: RateLimiter.RateLimiter) =>
      Effect.map(Effect.timeout(limiter.consume(), "1 second"), (result) => expect(result.limit).toBe(10))
  })
  sweep("RateLimiter.withLimit", {
    make,
    subject: (limiter) =>
      Effect.all([1, 2, 3].map((i) => limiter.withLimit(Effect.as(Effect.yieldNow, i), { key: "k" }))),
    expected: [1, 2, 3],
    check: (limiter) => Effect.timeout(limiter.withLimit(Effect.void, { key: "k" }), "1 second")
  })
  sweep("calls that fail instead of waiting", {
    make: RateLimiter.make({ limit: 2, window: "1 second", burst: 2 }),
    subject: (limiter: RateLimiter.RateLimiter) =>
      Effect.all(
        items.map(() =>
          limiter.withLimit(Effect.as(Effect.yieldNow, "started"), { onExceeded: "fail" }).pipe(
            Effect.catch((error) => Effect.succeed(error.reason._tag))
          )
        ),
        { concurrency: "unbounded" }
      ).pipe(Effect.map((all) => all.toSorted())),
    expected: [...Array<string>(3).fill("RateLimitExceeded"), "started", "started"],
    check: (limiter: RateLimiter.RateLimiter) => Effect.timeout(limiter.consume({ tokens: 2 }), "2 seconds")
  })
  sweep("RateLimiter.consume of a penalized key that is reset", {
    make: Effect.tap(make, (limiter) => limiter.penalize({ key: "k", for: "1 hour" })),
    subject: (limiter: RateLimiter.RateLimiter) => Effect.map(limiter.consume({ key: "k" }), (result) => result.limit),
    meanwhile: (limiter) => Effect.andThen(turns, limiter.reset({ key: "k" })),
    expected: 10
  })
})

const job = (i: number) => Effect.as(i % 2 === 0 ? Effect.yieldNow : Effect.void, i)

/** Items that arrive one by one, with a yield before each. */
const slow = Stream.fromIterable(items).pipe(Stream.rechunk(1), Stream.mapEffect(job))

const idle = (self: Scheduler.Scheduler) =>
  Effect.gen(function*() {
    expect(yield* self.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
    expect(yield* self.schedule(Effect.succeed("works"), { weight: 2 })).toBe("works")
  })

describe("Scheduler", () => {
  const two = Scheduler.make({ concurrency: 2 })
  const one = Scheduler.make({ concurrency: 1 })
  const subjects: Record<string, Pick<Subject<Scheduler.Scheduler, unknown, unknown>, "subject" | "expected">> = {
    "Scheduler.schedule": {
      subject: (_) => Effect.all(items.map((i) => _.schedule(job(i))), { concurrency: "unbounded" }),
      expected: items
    },
    "Scheduler.schedule inside a job": {
      subject: (_) => _.schedule(Effect.all(items.map((i) => _.schedule(_.schedule(job(i)))), { concurrency: 3 })),
      expected: items
    },
    "Scheduler.forEach": { subject: (_) => _.forEach(items, job), expected: items },
    "Scheduler.forEach inside a job": { subject: (_) => _.schedule(_.forEach(items, job)), expected: items },
    "Scheduler.forEach of a stream": { subject: (_) => _.forEach(slow, job), expected: items },
    "Scheduler.stream": {
      subject: (_) => Stream.runCollect(_.stream(items, job, { order: "input" }).pipe(Stream.mapEffect(job))),
      expected: items
    },
    "Scheduler.stream that is left early": {
      subject: (_) => Stream.runCollect(_.stream(slow, job, { order: "input" }).pipe(Stream.take(2))),
      expected: [1, 2]
    },
    "Scheduler.stream of a stream": {
      subject: (_) => Effect.map(Stream.runCollect(_.stream(slow, job)), (all) => all.toSorted()),
      expected: items
    },
    "Scheduler.mapEffect": {
      subject: (_) => Effect.map(Stream.runCollect(slow.pipe(_.mapEffect(job))), (all) => all.toSorted()),
      expected: items
    },
    "Scheduler.all": { subject: (_) => _.all({ a: job(1), b: job(2), c: job(3) }), expected: { a: 1, b: 2, c: 3 } },
    "Scheduler.firstSuccess": {
      subject: (_) => _.firstSuccess([Effect.fail("no"), Effect.andThen(Effect.yieldNow, Effect.fail("no")), job(2)]),
      expected: 2
    },
    "Scheduler.forEach that reports its progress": {
      subject: (_) => _.forEach(items, (i) => Effect.delay(job(i), 60), { onProgress: () => Effect.yieldNow }),
      expected: items
    },
    "Scheduler.awaitIdle": {
      subject: (_) => Effect.all([_.forEach(items, job), _.awaitIdle, _.schedule(_.awaitIdle)], { concurrency: 3 }),
      expected: [items, undefined, undefined]
    },
    "Scheduler.pause and resume": {
      subject: (_) =>
        Effect.all([
          Effect.ensuring(Effect.andThen(_.pause, turns), _.resume),
          _.forEach(items, job),
          _.awaitIdle
        ], { concurrency: 3 }),
      expected: [undefined, items, undefined]
    },
    "Scheduler.resize": {
      subject: (_) =>
        Effect.all([
          _.forEach(items, job),
          Effect.ensuring(Effect.andThen(_.resize(1), turns), _.resize(2)),
          _.schedule(job(2))
        ], { concurrency: 3 }),
      expected: [items, undefined, 2]
    },
    "Scheduler.setRate": {
      subject: (_) =>
        Effect.all([
          _.setRate({ limit: 100, window: "1 second" }),
          _.forEach(items, job),
          Effect.andThen(Effect.yieldNow, _.setRate({ limit: 50, window: "1 second" })),
          _.schedule(job(2))
        ], { concurrency: 4 }),
      expected: [undefined, items, undefined, 2]
    }
  }
  for (const [name, { expected, subject }] of Object.entries(subjects)) {
    sweep(name, { make: two, subject, expected, check: idle })
    // A job that waits for all others to end needs width for them.
    if (!name.includes("resize") && !name.includes("awaitIdle")) {
      sweep(`${name}, one at a time`, { make: one, subject: (_) => subject(_), expected, check: () => Effect.void })
    }
  }

  sweep("jobs that find the queue full", {
    make: Scheduler.make({ concurrency: 1, maxQueued: 1 }),
    // The first job runs until three others are refused, because the queue is full.
    subject: (_) =>
      Effect.suspend(() => {
        const refused = Latch.makeUnsafe(false)
        let refusals = 0
        const refuse = Effect.suspend(() => ++refusals === 3 ? refused.open : Effect.void)
        return Effect.all(
          items.map(() =>
            _.schedule(Effect.as(refused.await, "ran")).pipe(
              Effect.catch((error) => Effect.as(refuse, error.reason._tag))
            )
          ),
          { concurrency: "unbounded" }
        )
      }).pipe(Effect.map((all) => all.toSorted())),
    expected: [...Array<string>(3).fill("QueueFull"), "ran", "ran"],
    check: (_) => Effect.map(_.stats, (stats) => expect(stats).toMatchObject({ running: 0, weight: 0, queued: 0 }))
  })
  sweep("jobs that wait for the rate", {
    make: Scheduler.make({ concurrency: 2, rate: { limit: 10, window: "1 second" } }),
    subject: (_) => Effect.all([1, 2, 3].map((i) => _.schedule(job(i))), { concurrency: "unbounded" }),
    expected: [1, 2, 3],
    check: idle
  })

  // What was opened is closed: jobs, iterators and streams.
  const makeOpen = Effect.map(
    Scheduler.make({ concurrency: 2, maxQueued: 1 }),
    (scheduler) => ({ scheduler, opened: 0, closed: 0 })
  )
  type Open = Effect.Success<typeof makeOpen>
  const held = (self: Open) => (i: number) =>
    Effect.acquireUseRelease(Effect.sync(() => self.opened++), () => job(i), () => Effect.sync(() => self.closed++))
  function* pulled(self: Open): Generator<number> {
    self.opened++
    try {
      yield* items
    } finally {
      self.closed++
    }
  }
  const resource = (self: Open) =>
    Stream.unwrap(Effect.as(
      Effect.acquireRelease(Effect.sync(() => self.opened++), () => Effect.sync(() => self.closed++)),
      Stream.fromIterable([1, 2, 3])
    ))
  const opening: Record<string, Pick<Subject<Open, unknown, unknown>, "subject" | "expected">> = {
    "forEach that fails": {
      subject: (_) => Effect.flip(_.scheduler.forEach(pulled(_), (i) => i === 3 ? Effect.fail("no") : held(_)(i))),
      expected: "no"
    },
    "forEach of a stream": { subject: (_) => _.scheduler.forEach(resource(_), held(_)), expected: [1, 2, 3] },
    "stream": {
      subject: (_) => Stream.runCollect(_.scheduler.stream(pulled(_), held(_), { order: "input" })),
      expected: items
    },
    "stream that is left early": {
      subject: (_) =>
        Stream.runCollect(_.scheduler.stream(resource(_), held(_), { order: "input" }).pipe(Stream.take(1))),
      expected: [1]
    },
    "firstSuccess": {
      subject: (_) => _.scheduler.firstSuccess([Effect.fail("no"), Effect.andThen(turns, held(_)(1)), held(_)(2)]),
      expected: 2
    }
  }
  for (const [name, { expected, subject }] of Object.entries(opening)) {
    sweep(`${name}, which opens and closes`, {
      make: makeOpen,
      subject,
      expected,
      check: (self) => Effect.andThen(idle(self.scheduler), Effect.sync(() => expect(self.closed).toBe(self.opened)))
    })
  }

  sweep("Scheduler.schedule with weights and priorities", {
    make: two,
    subject: (_) =>
      Effect.all(items.map((i) => _.schedule(job(i), { weight: 1 + i % 2, priority: i % 3 })), {
        concurrency: "unbounded"
      }),
    expected: items,
    check: idle
  })
  sweep("Scheduler.schedule with a short queue", {
    make: Scheduler.make({ concurrency: 1, maxQueued: 1, rate: { limit: 10, window: "1 second" } }),
    subject: (_) => Effect.all([_.forEach(items, job), _.stream(items, job).pipe(Stream.runDrain)], { concurrency: 2 }),
    expected: [items, undefined],
    check: (self) =>
      Effect.map(self.stats, (stats) => expect(stats).toMatchObject({ running: 0, weight: 0, queued: 0 }))
  })
  sweep("the end of a scheduler", {
    make: Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(two, scope)
      const callers = [
        yield* fork(scheduler.forEach(items, () => Effect.onExit(Effect.never, () => Effect.yieldNow))),
        yield* fork(scheduler.schedule(Effect.never)),
        yield* fork(Stream.runDrain(scheduler.stream(slow, () => Effect.never))),
        yield* fork(scheduler.awaitIdle)
      ]
      return { scope, scheduler, callers }
    }),
    subject: ({ scope }) => Effect.uninterruptible(Scope.close(scope, Exit.void)),
    expected: undefined,
    check: ({ callers, scheduler }, exit) =>
      Effect.gen(function*() {
        if (exit._tag === "Failure") return
        yield* turns
        for (const caller of callers) expect(caller.pollUnsafe()).toBeDefined()
        expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      })
  })

  class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", { lookup: (_host: string) => ({ concurrency: 1 }) }) {}
  sweep("Scheduler.Keyed", {
    make: Layer.build(Hosts.layer),
    subject: (context) =>
      Effect.provideContext(
        Effect.all([
          Hosts.schedule("a", Effect.andThen(Effect.yieldNow, Hosts.schedule("a", Effect.succeed(1)))),
          Effect.flatMap(Hosts.get("a"), (a) => a.forEach(items, job)),
          Hosts.schedule("b", job(2)),
          Effect.flatMap(Hosts.get("b"), (b) => Stream.runCollect(b.stream(items, job, { order: "input" })))
        ], { concurrency: "unbounded" }),
        context
      ),
    expected: [1, items, 2, items],
    check: (context) => Effect.map(Effect.provideContext(Hosts.size, context), (size) => expect(size).toBe(0))
  })
})

describe("Batcher", () => {
  class Get extends Request.TaggedClass("Get")<{ readonly id: number }, number> {}
  const get = (id: number) => new Get({ id })
  const makeOn = (services: Layer.Layer<Batcher.Batcher | Scheduler.Scheduler>, cache = false) =>
    Effect.gen(function*() {
      const context = yield* Layer.build(services)
      const seen = { running: 0, ids: [] as Array<number> }
      const resolver = yield* Effect.provideContext(
        Batcher.ordered(Get, {
          ...(cache && { cache: { capacity: 10, timeToLive: () => "1 hour" } }),
          execute: (requests) =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                seen.running++
                seen.ids.push(...requests.map((_) => _.id))
              }),
              () => Effect.as(Effect.yieldNow, requests.map((_) => _.id * 10)),
              () => Effect.sync(() => seen.running--)
            )
        }),
        context
      )
      return { context, seen, resolver, scheduler: yield* Effect.provideContext(Scheduler.Scheduler, context) }
    })
  type Fixture = Effect.Success<ReturnType<typeof makeOn>>
  const check = ({ resolver, scheduler, seen }: Fixture) =>
    Effect.gen(function*() {
      yield* turns
      expect(leftIn(resolver)).toBe("")
      expect(seen.running).toBe(0)
      expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      expect(yield* Effect.request(get(9), resolver)).toBe(90)
    })
  const alone = Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
    Layer.provideMerge(Scheduler.layer({ concurrency: "unbounded" }))
  )
  const queued = Batcher.layer({ maxBatchSize: 2, scheduler: Scheduler.Scheduler }).pipe(
    Layer.provideMerge(Scheduler.layer({ concurrency: 1 }))
  )
  const timed = Batcher.layer({ window: "10 millis", scheduler: Scheduler.Scheduler }).pipe(
    Layer.provideMerge(Scheduler.layer({ concurrency: 1 }))
  )
  const load = (ids: ReadonlyArray<number>) => ({ resolver }: Fixture) =>
    Effect.forEach(ids, (id) => Effect.request(get(id), resolver), { concurrency: "unbounded" })

  for (const [name, services] of Object.entries({ alone, "in a queue": queued, "in windows of time": timed })) {
    sweep(`look-ups ${name}`, {
      make: makeOn(services),
      subject: load([1, 2, 1, 3]),
      expected: [10, 20, 10, 30],
      check
    })
    sweep(`Batcher.loadMany ${name}`, {
      make: makeOn(services),
      subject: (self) =>
        Effect.all([Batcher.loadMany([1, 2, 3].map(get), self.resolver), load([3, 4])(self)], { concurrency: 2 }),
      expected: [[10, 20, 30], [30, 40]],
      check
    })
    sweep(`look-ups behind a cache ${name}`, {
      make: makeOn(services, true),
      subject: (self) => Effect.all([load([1, 2])(self), load([2, 1])(self)], { concurrency: 1 }),
      expected: [[10, 20], [20, 10]],
      check
    })
  }
  for (const [name, services] of Object.entries({ alone, "in a queue": queued })) {
    sweep(`look-ups of what another asks for, who does not notice, ${name}`, {
      make: Effect.gen(function*() {
        const self = yield* makeOn(services)
        return { ...self, other: yield* fork(Effect.request(get(1), self.resolver)) }
      }),
      subject: load([1, 2]),
      expected: [10, 20],
      check: (self) => Effect.andThen(Effect.map(Fiber.join(self.other), (_) => expect(_).toBe(10)), check(self))
    })
  }
  sweep("jobs that look up", {
    make: makeOn(queued),
    subject: (self) => self.scheduler.forEach([1, 2, 3], (id) => Effect.request(get(id), self.resolver)),
    expected: [10, 20, 30],
    check
  })
  sweep("look-ups that other callers leave", {
    make: Effect.tap(makeOn(queued), (self) =>
      Effect.gen(function*() {
        const others = yield* Effect.forEach([1, 2, 5], (id) => fork(Effect.request(get(id), self.resolver)))
        yield* fork(Effect.andThen(Effect.yieldNow, Fiber.interruptAll(others)))
      })),
    subject: load([1, 2]),
    expected: [10, 20],
    check
  })
})
