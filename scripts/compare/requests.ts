/** Programs that show where effect's RequestResolver and a Batcher behave differently. */
import { Context, Effect, Exit, Layer, Request, RequestResolver, Scope } from "effect"
import { Batcher, Scheduler } from "effect-funnel"
import { build, ending, fork, like, type Row, settle } from "./row.ts"

class Get extends Request.Class<{ readonly id: number }, number, "missing"> {}

const Tenant = Context.Reference<string>("compare/Tenant", { defaultValue: () => "nobody" })

type Resolver = RequestResolver.RequestResolver<Get>
type Execute = (ids: ReadonlyArray<number>) => Effect.Effect<unknown>

/** The usual hand-written resolver: asks for all ids at once and completes each request. */
const resolverOf = (execute: Execute): Resolver =>
  RequestResolver.make<Get>((entries) =>
    Effect.map(execute(entries.map((entry) => entry.request.id)), () => {
      for (const entry of entries) entry.completeUnsafe(Exit.succeed(entry.request.id))
    })
  )

const inScope = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): A =>
  Effect.runSync(Effect.orDie(Effect.provideService(effect, Scope.Scope, Scope.makeUnsafe())))

const batcherOf = (concurrency: number | "unbounded" = "unbounded") =>
  build(
    Batcher.Batcher,
    Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(Layer.provide(Scheduler.layer({ concurrency })))
  )

const batched = (execute: Execute, options: {
  readonly maxBatchSize?: number
  readonly concurrency?: number
  readonly isolate?: boolean
} = {}): Resolver => {
  const common = {
    execute: (requests: ReadonlyArray<Get>) => {
      const ids = requests.map((request) => request.id)
      return Effect.as(execute(ids), ids)
    },
    maxBatchSize: options.maxBatchSize
  }
  const batcher = batcherOf(options.concurrency)
  return inScope(
    options.isolate ? batcher.ordered(Get, { ...common, isolate: [Tenant] }) : batcher.ordered(Get, common)
  )
}

const load = (ids: ReadonlyArray<number>, resolver: Resolver) =>
  Effect.forEach(ids, (id) => Effect.request(new Get({ id }), resolver), { concurrency: "unbounded" })

/** The program for both sides, parameterized by the function that makes a resolver of `execute`. */
const both = (
  observe: (make: (execute: Execute) => Resolver) => Promise<string>,
  promised: string,
  options?: Parameters<typeof batched>[1]
) => ({
  effect: () =>
    observe((execute) => {
      const resolver = resolverOf(execute)
      return options?.maxBatchSize === undefined ? resolver : RequestResolver.batchN(resolver, options.maxBatchSize)
    }),
  funnel: async () => like(await observe((execute) => batched(execute, options)), promised)
})

const part = "`RequestResolver`"
const test = "test/Batcher.test.ts"

export const rows: ReadonlyArray<Row> = [
  {
    part,
    test,
    what: "look-ups of 1, 1 and 2: ids sent to the backend",
    ...both(async (make) => {
      const calls: Array<string> = []
      await Effect.runPromise(load([1, 1, 2], make((ids) => Effect.sync(() => calls.push(`[${ids.join(", ")}]`)))))
      return calls.join(", ")
    }, "[1, 2]")
  },
  {
    part,
    test,
    what: "all callers of a running batch are interrupted",
    ...both(async (make) => {
      let end = "goes on"
      const resolver = make(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => end = "is interrupted")))
      const fibers = [1, 2].map((id) => fork(Effect.request(new Get({ id }), resolver)))
      await settle()
      for (const fiber of fibers) fiber.interruptUnsafe()
      await settle()
      return `the batch ${end}`
    }, "the batch is interrupted")
  },
  {
    part,
    test,
    what: "two tenants look up ids at the same time: tenant of each backend call",
    ...both(
      async (make) => {
        const tenants: Array<string> = []
        const resolver = make((ids) => Effect.map(Tenant, (tenant) => tenants.push(`${tenant} for ${ids.join(", ")}`)))
        const one = Effect.provideService(load([1], resolver), Tenant, "A")
        const other = Effect.provideService(load([2], resolver), Tenant, "B")
        await Effect.runPromise(Effect.all([one, other], { concurrency: "unbounded" }))
        return tenants.join("; ")
      },
      "A for 1; B for 2",
      { isolate: true }
    )
  },
  {
    part,
    test,
    what: "100 ready batches for a backend that takes 4 at once",
    ...(() => {
      const most = async (make: (execute: Execute) => Resolver) => {
        let running = 0
        let most = 0
        const resolver = make(() =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            yield* Effect.yieldNow
            running--
          })
        )
        await Effect.runPromise(load(Array.from({ length: 100 }, (_, i) => i), resolver))
        return `${most} run at once`
      }
      return both(most, "4 run at once", { maxBatchSize: 1, concurrency: 4 })
    })()
  },
  {
    part,
    test,
    what: "an id without a row in the backend",
    effect: () => ending(() => load([1], RequestResolver.make<Get>(() => Effect.void))),
    funnel: async () => {
      const resolver = inScope(
        batcherOf().findById(Get, {
          id: (request) => request.id,
          execute: () => Effect.succeed<Array<number>>([]),
          resultId: (row) => row,
          missing: () => Exit.fail("missing" as const)
        })
      )
      return like(await ending(() => load([1], resolver)), "missing")
    }
  },
  {
    part: "`RequestResolver.withCache`",
    test,
    what: "a second look-up after a failed one",
    ...(() => {
      const asked = async (make: (execute: () => Effect.Effect<never, "missing">) => Effect.Effect<Resolver>) => {
        let calls = 0
        const execute = () => Effect.andThen(Effect.sync(() => calls++), Effect.fail("missing" as const))
        const resolver = await Effect.runPromise(make(execute))
        for (let i = 0; i < 2; i++) await Effect.runPromise(Effect.exit(load([1], resolver)))
        return calls === 1 ? "the old failure" : "the backend is asked"
      }
      return {
        effect: () =>
          asked((execute) =>
            RequestResolver.withCache(RequestResolver.make<Get>(execute), { capacity: 10 }) as Effect.Effect<Resolver>
          ),
        funnel: async () => {
          const seen = await asked((execute) =>
            Effect.sync(() =>
              inScope(
                batcherOf().ordered(Get, {
                  execute,
                  cache: { capacity: 10, timeToLive: (exit) => Exit.isSuccess(exit) ? "1 minute" : 0 }
                })
              )
            )
          )
          return like(seen, "the backend is asked")
        }
      }
    })()
  }
]
