/** Look-ups over 1,000 keys, batched. */
import DataLoader from "dataloader"
import { Effect, Exit, Layer, Request, RequestResolver, Scope } from "effect"
import { Batcher, build, Scheduler } from "../funnel.ts"
import type { Contender, Table } from "../harness.ts"

const keys = 1_000

class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, number> {}

let asked = 0

/**
 * The results plus a million times the distinct keys that the backend received, which reveals a contender that does not
 * merge.
 */
const work = (results: number): number => {
  const total = results + asked * 1_000_000
  asked = 0
  return total
}

const merged = RequestResolver.make<GetUser>((entries) =>
  Effect.sync(() => {
    const byId = new Map<number, Array<Request.Entry<GetUser>>>()
    for (const entry of entries) {
      const same = byId.get(entry.request.id)
      if (same === undefined) byId.set(entry.request.id, [entry])
      else same.push(entry)
    }
    asked += byId.size
    for (const same of byId.values()) {
      for (const entry of same) entry.completeUnsafe(Exit.succeed(1))
    }
  })
)

const cached = (capacity: number) => RequestResolver.withCache(merged, { capacity })

const funnel = await Effect.runPromise(
  Batcher.ordered(GetUser, {
    execute: (requests: ReadonlyArray<GetUser>) =>
      Effect.sync(() => {
        asked += requests.length
        return requests.map(() => 1)
      })
  }).pipe(
    Effect.provideService(
      Batcher.Batcher,
      await build(
        Batcher.Batcher,
        Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
          Layer.provide(Scheduler.layer({ concurrency: "unbounded" }))
        )
      )
    ),
    Effect.provideService(Scope.Scope, Scope.makeUnsafe())
  )
)

const loader = () =>
  new DataLoader<number, number>(async (ids) => {
    asked += ids.length
    return ids.map(() => 1)
  })

const total = (results: ReadonlyArray<number>) => results.reduce((a, b) => a + b, 0)

const fibers = (
  name: string,
  resolver: () => Effect.Effect<(request: GetUser) => Effect.Effect<number>>
): Contender => ({
  name,
  run: (n) =>
    Effect.runPromise(
      Effect.flatMap(resolver(), (ask) =>
        Effect.forEach(
          Array.from({ length: n }, (_, i) => i),
          (i) => ask(new GetUser({ id: i % keys })),
          {
            concurrency: "unbounded"
          }
        ))
    ).then((results) => work(total(results)))
})

export const tables: ReadonlyArray<Table> = [
  {
    id: "look-ups",
    title: "Look-ups over 1,000 keys, a fiber or a promise each",
    sizes: [10_000, 100_000],
    judged: [10_000],
    expected: (n, contender) => contender === "Effect.forEach that only yields" ? n : n + keys * 1_000_000,
    contenders: [
      {
        name: "DataLoader",
        run: async (n) => {
          const users = loader()
          return work(total(await Promise.all(Array.from({ length: n }, (_, i) => users.load(i % keys)))))
        }
      },
      {
        name: "DataLoader, an async function each",
        run: async (n) => {
          const users = loader()
          return work(total(await Promise.all(Array.from({ length: n }, async (_, i) => await users.load(i % keys)))))
        }
      },
      fibers(
        "Effect.request, merged in the resolver",
        () => Effect.succeed((request) => Effect.request(request, merged))
      ),
      fibers("Funnel Batcher.ordered", () => Effect.succeed((request) => Effect.request(request, funnel))),
      fibers(
        "Effect.request, withCache",
        () => Effect.map(cached(10_000), (resolver) => (request) => Effect.request(request, resolver))
      ),
      fibers("Effect.forEach that only yields", () => Effect.succeed(() => Effect.as(Effect.yieldNow, 1)))
    ]
  },
  {
    id: "load-many",
    title: "Look-ups of many keys in one call",
    sizes: [1_000, 10_000],
    judged: [10_000],
    expected: (n) => n + Math.min(n, keys) * 1_000_000,
    contenders: [
      {
        name: "DataLoader.loadMany",
        run: async (n) => {
          const results = await loader().loadMany(Array.from({ length: n }, (_, i) => i % keys))
          return work(total(results.map(Number)))
        }
      },
      {
        name: "Funnel Batcher.loadMany",
        run: (n) =>
          Effect.runPromise(
            Batcher.loadMany(Array.from({ length: n }, (_, i) => new GetUser({ id: i % keys })), funnel)
          ).then((results) => work(total(results)))
      }
    ]
  }
]
