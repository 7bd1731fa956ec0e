/** Programs that show where effect's parts and Funnel behave differently. */
import { Cache, Clock, Effect, Fiber, Layer, LayerMap, Scope, Semaphore } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Persistence from "effect/persistence/RateLimiter"
import { TestClock } from "effect/testing"
import { build, counted, ending, endings, fork, like, type Row, settle } from "./row.ts"

const nonsense = [0, -1, NaN]

const semaphore: ReadonlyArray<Row> = [
  {
    part: "`Semaphore`",
    what: "a job that needs 2 of 2 permits, behind which 100 jobs for 1 permit arrive",
    ...(() => {
      // Each light job is queued before the one in front of it ends.
      const overtakers = async (run: (weight: number, job: Effect.Effect<void>) => Effect.Effect<void, unknown>) => {
        let heavy = false
        let overtook = -1
        let end = () => {}
        const light = () =>
          run(
            1,
            Effect.callback<void>((resume) => {
              if (!heavy) overtook++
              end = () => resume(Effect.void)
            })
          )
        fork(light())
        fork(run(2, Effect.sync(() => void (heavy = true))))
        for (let i = 0; i < 100; i++) {
          const before = end
          fork(light())
          before()
          await Effect.runPromise(Effect.yieldNow)
        }
        end()
        return `${overtook} of 100 overtake it`
      }
      return {
        effect: () => {
          const semaphore = Semaphore.makeUnsafe(2)
          return overtakers((weight, job) => semaphore.withPermits(weight)(job))
        },
        funnel: async () => {
          const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 2 }))
          return like(await overtakers((weight, job) => scheduler.schedule(job, { weight })), "0 of 100 overtake it")
        }
      }
    })(),
    test: "test/Scheduler.test.ts"
  },
  {
    part: "`Semaphore`",
    what: "a request for more permits than exist",
    effect: () => ending(() => Semaphore.makeUnsafe(1).withPermits(2)(Effect.void)),
    funnel: async () => {
      const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1 }))
      return like(await ending(() => scheduler.schedule(Effect.void, { weight: 2 })), "InsufficientCapacity")
    },
    test: "test/Scheduler.test.ts"
  },
  {
    part: "`Semaphore`",
    what: "0, −1 or NaN permits",
    effect: () => endings(nonsense.map((n) => () => Semaphore.makeUnsafe(n).withPermit(Effect.void))),
    funnel: async () =>
      like(await endings(nonsense.map((n) => () => Effect.scoped(Scheduler.make({ concurrency: n })))), "RangeError"),
    test: "test/Scheduler.test.ts"
  },
  {
    part: "`Semaphore`",
    what: "a job that takes the only permit again inside itself",
    effect: () => {
      const semaphore = Semaphore.makeUnsafe(1)
      return ending(() => semaphore.withPermit(semaphore.withPermit(Effect.void)))
    },
    funnel: async () => {
      const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1 }))
      return like(await ending(() => scheduler.schedule(scheduler.schedule(Effect.void))), "returns")
    },
    test: "test/Scheduler.test.ts"
  }
]

class Session {
  readonly #user: string
  constructor(user: string) {
    this.#user = user
  }
  whose(): string {
    return this.#user
  }
}

const cacheOf = <Key, A>(lookup: (key: Key) => Effect.Effect<A>, capacity = 100) =>
  Effect.runSync(Cache.make({ lookup, capacity, timeToLive: 0 }))

const cache: ReadonlyArray<Row> = [
  {
    part: "`Cache`, `timeToLive: 0`",
    what: "two calls of one key, with as many other keys in flight as the capacity",
    ...(() => {
      let runs = 0
      const run = Effect.andThen(Effect.sync(() => runs++), Effect.never)
      const asked = async (ask: (key: string) => Effect.Effect<unknown>) => {
        runs = 0
        const fibers = ["a", "b", "a"].map((key) => fork(ask(key)))
        await settle()
        for (const fiber of fibers) fiber.interruptUnsafe()
        return `${counted(runs - 1, "run")} of that key`
      }
      return {
        effect: () => {
          const cache = cacheOf((_: string) => run, 1)
          return asked((key) => Cache.get(cache, key))
        },
        funnel: async () => {
          const reducer = build(Reducer.Reducer, Reducer.layer())
          return like(await asked((key) => reducer.reduce(key, run)), "1 run of that key")
        }
      }
    })(),
    test: "test/Reducer.test.ts"
  },
  {
    part: "`Cache`, `timeToLive: 0`",
    what: "a newcomer, while an interrupted run is still in its finalizer",
    ...(() => {
      let running = 0
      let most = 0
      const run = Effect.acquireUseRelease(
        Effect.sync(() => most = Math.max(most, ++running)),
        () => Effect.never,
        () => Effect.andThen(Effect.forEach([1, 2, 3], () => Effect.yieldNow), Effect.sync(() => running--))
      )
      const asked = async (ask: Effect.Effect<unknown>) => {
        running = 0
        most = 0
        const first = fork(ask)
        await settle()
        first.interruptUnsafe()
        const second = fork(ask)
        await settle()
        second.interruptUnsafe()
        await settle()
        return `${counted(most, "run")} at once`
      }
      return {
        effect: () => asked(Cache.get(cacheOf((_: string) => run), "key")),
        funnel: async () =>
          like(await asked(build(Reducer.Reducer, Reducer.layer()).reduce("key", run)), "1 run at once")
      }
    })(),
    test: "test/Reducer.test.ts"
  },
  {
    part: "`Cache`, `timeToLive: 0`",
    what: "a run that calls its own key",
    effect: () => {
      const cache: Cache.Cache<string, number> = cacheOf((key: string) =>
        Effect.andThen(Effect.yieldNow, Cache.get(cache, key))
      )
      return ending(() => Cache.get(cache, "key"))
    },
    funnel: async () => {
      const reducer = build(Reducer.Reducer, Reducer.layer())
      const inner: Effect.Effect<number> = Effect.suspend(() =>
        reducer.reduce("key", Effect.andThen(Effect.yieldNow, inner))
      )
      return like(await ending(() => inner), "defect: ReducerCycle")
    },
    test: "test/Reducer.test.ts"
  },
  {
    part: "`Equal`, as keys of a `Cache`",
    what: "two sessions that differ only in a `#private` field, each asking for its cart",
    ...(() => {
      const sessions = [new Session("ada"), new Session("bob")]
      const carts = async (ask: (key: Session) => Effect.Effect<string>) =>
        (await Effect.runPromise(Effect.forEach(sessions, ask, { concurrency: "unbounded" }))).join(", ")
      const cartOf = (session: Session) => Effect.as(Effect.yieldNow, `${session.whose()}'s`)
      return {
        effect: () => {
          const cache = cacheOf(cartOf)
          return carts((session) => Cache.get(cache, session))
        },
        funnel: async () => {
          const reducer = build(Reducer.Reducer, Reducer.layer())
          return like(await carts((session) => reducer.reduce(session, cartOf(session))), "ada's, bob's")
        }
      }
    })(),
    test: "test/ReducerKeys.test.ts"
  },
  {
    part: "`Equal`, as keys of a `Cache`",
    what: "two `Headers` with different contents; two promises",
    ...(() => {
      const pairs = [
        [new Headers({ a: "1" }), new Headers({ a: "2" })],
        [Promise.resolve(1), Promise.resolve(2)]
      ]
      let runs = 0
      const run = Effect.andThen(Effect.sync(() => void runs++), Effect.yieldNow)
      const asked = async (ask: (key: object) => Effect.Effect<void>) => {
        const all: Array<string> = []
        for (const pair of pairs) {
          runs = 0
          await Effect.runPromise(Effect.forEach(pair, ask, { concurrency: "unbounded" }))
          all.push(runs === 1 ? "equal" : "different")
        }
        return all.join("; ")
      }
      return {
        effect: () => {
          const cache = cacheOf((_: object) => run)
          return asked((key) => Cache.get(cache, key))
        },
        funnel: async () => {
          const reducer = build(Reducer.Reducer, Reducer.layer())
          return like(await asked((key) => reducer.reduce(key, run)), "different; different")
        }
      }
    })(),
    test: "test/ReducerKeys.test.ts"
  }
]

/** The highest number of `times` in any half-open window of one second. */
const mostInWindow = (times: ReadonlyArray<number>): number =>
  Math.max(...times.map((from) => times.filter((time) => time >= from && time < from + 1000).length))

const virtual = <A>(effect: Effect.Effect<A, never, never>): Promise<A> =>
  Effect.runPromise(Effect.provide(effect, TestClock.layer()))

/** Makes 1 attempt, 9 more after 90 ms, and 10 more after a second, and records the starts of those that pass. */
const edges = (attempt: Effect.Effect<boolean>) =>
  Effect.gen(function*() {
    const times: Array<number> = []
    let at = 0
    for (const [time, attempts] of [[0, 1], [90, 9], [1000, 10]] as const) {
      yield* TestClock.adjust(time - at)
      at = time
      for (let i = 0; i < attempts; i++) if (yield* attempt) times.push(time)
    }
    return `${mostInWindow(times)} starts in a window of 10`
  })

const persistent = Effect.provide(
  Persistence.RateLimiter,
  Persistence.layer.pipe(Layer.provide(Persistence.layerStoreMemory))
)

const rateLimiter: ReadonlyArray<Row> = [
  {
    part: "`RateLimiter` of `effect/persistence`",
    what: "the wait of a call after an interrupted waiter, at 1 in 200 ms",
    effect: () =>
      virtual(
        Effect.gen(function*() {
          const withLimiter = yield* Persistence.makeWithRateLimiter
          const limited = Effect.void.pipe(
            withLimiter({ key: "key", limit: 1, window: 200, onExceeded: "delay", algorithm: "token-bucket" })
          )
          return yield* thirdStart(Effect.orDie(limited))
        }).pipe(Effect.provide(Persistence.layer.pipe(Layer.provide(Persistence.layerStoreMemory))))
      ),
    funnel: async () => {
      const seen = await virtual(Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ limit: 1, window: 200 })
        return yield* thirdStart(Effect.orDie(limiter.withLimit(Effect.void)))
      }))
      return like(seen, "200 ms")
    },
    test: "test/RateLimiter.test.ts"
  },
  {
    part: "`RateLimiter` of `effect/persistence`",
    what: "attempts across the edge of a window of 10 a second",
    effect: () =>
      virtual(Effect.gen(function*() {
        const limiter = yield* persistent
        const options = { key: "key", limit: 10, window: "1 second", algorithm: "fixed-window", onExceeded: "fail" }
        return yield* edges(Effect.isSuccess(limiter.consume(options as Parameters<typeof limiter.consume>[0])))
      })),
    funnel: async () => {
      const seen = await virtual(Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 10, strict: true })
        return yield* edges(Effect.isSuccess(limiter.consume({ onExceeded: "fail" })))
      }))
      return { seen: `${seen} (\`strict\`)`, holds: Number.parseInt(seen) <= 10 }
    },
    test: "test/RateLimiter.test.ts"
  },
  {
    part: "`RateLimiter` of `effect/persistence`",
    what: "a limit of NaN",
    effect: async () => {
      const passed = await virtual(Effect.gen(function*() {
        const limiter = yield* persistent
        const attempt = limiter.consume({ key: "key", limit: NaN, window: "1 second", onExceeded: "fail" })
        const all = yield* Effect.forEach(Array.from({ length: 1000 }), () => Effect.isSuccess(attempt))
        return all.filter((success) => success).length
      }))
      return `${passed.toLocaleString("en-US")} of 1,000 pass`
    },
    funnel: async () => like(await ending(() => RateLimiter.make({ limit: NaN, window: "1 second" })), "RangeError"),
    test: "test/RateLimiter.test.ts"
  }
]

/** The first call starts at once, the second waits and is interrupted. Returns when the third starts. */
function thirdStart(call: Effect.Effect<void>) {
  return Effect.gen(function*() {
    yield* call
    const second = yield* Effect.forkChild(call, { startImmediately: true })
    yield* Effect.yieldNow
    yield* Fiber.interrupt(second)
    const third = yield* Effect.andThen(call, Clock.currentTimeMillis).pipe(
      Effect.forkChild({ startImmediately: true })
    )
    yield* Effect.yieldNow
    yield* TestClock.adjust("10 seconds")
    return `${yield* Fiber.join(third)} ms`
  })
}

/** Uses a key five times in a row without waiting and counts the starts. The key's rate is one a minute. */
const fiveUses = async (use: (job: Effect.Effect<void>) => Effect.Effect<unknown, unknown>) => {
  let started = 0
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let i = 0; i < 5; i++) {
    fibers.push(fork(use(Effect.sync(() => void started++))))
    await settle()
  }
  for (const fiber of fibers) fiber.interruptUnsafe()
  return `${counted(started, "start")} at once`
}

const perMinute = { concurrency: 1, rate: { limit: 1, window: "1 minute" } } as const

class Keyed extends Scheduler.Keyed<Keyed>()("compare/Keyed", { lookup: (_: string) => perMinute }) {}

const widths = [0, -1, NaN, 1.5]

const collections: ReadonlyArray<Row> = [
  {
    part: "`LayerMap`",
    what: "five uses in a row of a keyed scheduler at one a minute",
    effect: () => {
      const schedulers = Effect.runSync(
        Effect.provideService(
          LayerMap.make((_: string) => Scheduler.layer(perMinute)),
          Scope.Scope,
          Scope.makeUnsafe()
        )
      )
      return fiveUses((job) => Effect.provide(Scheduler.schedule(job), schedulers.get("key")))
    },
    funnel: async () => {
      const keyed = build(Keyed, Keyed.layer)
      return like(await fiveUses((job) => keyed.get("key").schedule(job)), "1 start at once")
    },
    test: "test/SchedulerKeyed.test.ts"
  },
  {
    part: "`Effect.forEach`",
    what: "a concurrency of 0, −1, NaN and 1.5",
    effect: async () => {
      const seen = await endings(
        widths.map((concurrency) => () => Effect.forEach([1, 2], Effect.succeed, { concurrency }))
      )
      return seen === "returns" ? "accepts each of them" : seen
    },
    funnel: async () =>
      like(
        await endings(widths.map((concurrency) => () => Effect.scoped(Scheduler.make({ concurrency })))),
        "RangeError"
      ),
    test: "test/Scheduler.test.ts"
  },
  {
    part: "`Effect.forEach`",
    what: "items pulled from 100,000, 10 at once, before the first job ends",
    ...(() => {
      const pulled = async (run: (items: Iterable<number>) => Effect.Effect<unknown, unknown>) => {
        let count = 0
        const items = function*() {
          for (let i = 0; i < 100_000; i++) {
            count++
            yield i
          }
        }
        const fiber = fork(run({ [Symbol.iterator]: items }))
        await settle()
        fiber.interruptUnsafe()
        return `${count.toLocaleString("en-US")} pulled`
      }
      const options = { concurrency: 10, discard: true } as const
      return {
        effect: () => pulled((items) => Effect.forEach(items, () => Effect.never, options)),
        funnel: async () => {
          const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 10 }))
          return like(
            await pulled((items) => scheduler.forEach(items, () => Effect.never, { discard: true })),
            "10 pulled"
          )
        }
      }
    })(),
    test: "test/SchedulerCollect.test.ts"
  },
  {
    part: "`Effect.raceAll`",
    what: "an empty list",
    effect: () => ending(() => Effect.raceAll([])),
    funnel: async () => {
      const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1 }))
      return like(await ending(() => scheduler.firstSuccess([])), "NothingToTry")
    },
    test: "test/SchedulerCollect.test.ts"
  }
]

export const rows: ReadonlyArray<Row> = [...semaphore, ...cache, ...rateLimiter, ...collections]
