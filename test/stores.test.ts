import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Scheduler } from "effect-funnel"
import * as Stores from "effect-funnel/stores"
import { GcraStoreModel } from "./support/gcraStoreModel.js"
import { ManualClock } from "./support/manualClock.js"
import { makeMemory } from "./support/memoryReducerStore.js"
import { PermitStoreModel } from "./support/permitStoreModel.js"

const rule = (leaseMillis: number) =>
  `leaseMillis of the store must be a number > 0 and at most 1 hour, got ${leaseMillis}`

describe("services over a store of one's own", () => {
  it.effect("a store whose lease is no length is refused when the service is made", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      for (const leaseMillis of [NaN, 0, -1, Infinity, 3_600_001]) {
        const reducer = Stores.makeReducer(Effect.succeed(makeMemory({ leaseMillis, retainMillis: 1 })))
        const model = new PermitStoreModel(clock, leaseMillis)
        const stores: Stores.SchedulerStores = {
          permits: (_, onWake) => model.of("node", onWake),
          rates: (_, cells) => new GcraStoreModel(clock).of(cells)
        }
        class Keyed extends Scheduler.Keyed<Keyed>()("test/Keyed", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
        const keyed = Effect.provide(
          Keyed.schedule("key", Effect.void),
          Stores.layerKeyedScheduler(Keyed, Effect.succeed(stores), { lookup: (_) => ({ concurrency: 1 }) })
        )
        const scheduler = Stores.makeScheduler(Effect.succeed(stores), { name: "test", concurrency: 1 })
        for (const made of [reducer, scheduler, keyed]) {
          const exit = yield* Effect.exit(Effect.scoped(made))
          expect(Exit.isFailure(exit) && String(exit.cause)).toContain(rule(leaseMillis))
        }
      }
    }))
})
