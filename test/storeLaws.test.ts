/**
 * The laws of stores: the models of the other tests keep them, and stores that break one are found out.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Cell } from "../src/internal/store/gcraStore.js"
import type { ReducerStore } from "../src/internal/store/reducerStore.js"
import * as Laws from "../src/stores/laws.js"
import { GcraStoreModel } from "./support/gcraStoreModel.js"
import { checked } from "./support/laws.js"
import { ManualClock } from "./support/manualClock.js"
import { makeMemory } from "./support/memoryReducerStore.js"
import { PermitStoreModel } from "./support/permitStoreModel.js"

/** The models take a clock that tests turn: here it turns by itself. */
class WallClock extends ManualClock {
  override get now(): number {
    return performance.now() * 1e6
  }
}

const memory = new Map<string, ReducerStore>()
const reducerStore = (options: Laws.ReducerStoreOptions) =>
  Effect.sync(() => {
    const name = JSON.stringify(options)
    const store = memory.get(name) ?? makeMemory(options)
    memory.set(name, store)
    return store
  })

const rates = new GcraStoreModel(new WallClock())
const gcraStore = (cells: ReadonlyArray<Cell>) => Effect.succeed(rates.of(cells))

let nodes = 0

describe("the models keep the laws", () => {
  checked("ReducerStore", Laws.reducerStore(reducerStore))
  checked("GcraStore", Laws.gcraStore(gcraStore))
  const models = new Map<string, PermitStoreModel>()
  checked(
    "PermitStore",
    // A model has leases of one length.
    Laws.permitStore(({ leaseMillis, name, onWake }) =>
      Effect.sync(() => {
        const model = models.get(name) ?? new PermitStoreModel(new WallClock(), leaseMillis)
        models.set(name, model)
        return model.of(`n${nodes++}`, onWake)
      })
    ).filter(({ title }) => !title.includes("its own lease"))
  )
})

describe("a store that breaks a promise is found out:", () => {
  const broken = (laws: ReadonlyArray<Laws.Law>) =>
    Effect.map(
      Effect.forEach(laws, ({ check, title }) =>
        Effect.map(
          Effect.exit(Effect.scoped(check)),
          (exit) => Exit.isFailure(exit) ? [title] : []
        ), { concurrency: "unbounded" }),
      (titles) => titles.flat()
    )

  const breaking = (title: RegExp, f: (store: ReducerStore) => Partial<ReducerStore>) =>
    broken(
      Laws.reducerStore((options) => Effect.map(reducerStore(options), (store) => ({ ...store, ...f(store) })))
        .filter((_) => title.test(_.title))
    )

  it.live.each<[what: string, f: (store: ReducerStore) => Partial<ReducerStore>, title: RegExp]>([
    [
      "it serves a kept result to newcomers",
      (store) => ({ join: (key, party) => store.join(key, party, 0) }),
      /never gets a kept/
    ],
    ["it never fences", () => ({ complete: () => Effect.succeed(true) }), /the former is refused/],
    ["it never wakes", (store) => ({ open: () => store.open(() => {}) }), /wakes a follower/],
    ["keys lose their ends", (store) => ({ join: (key, ...rest) => store.join(key.trim(), ...rest) }), /any text/]
  ])("%s", ([, f, title]) => Effect.map(breaking(title, f), (titles) => expect(titles.length).toBe(1)))

  it.live("it forgets what it has granted", () =>
    Effect.map(
      broken(Laws.gcraStore((cells) =>
        Effect.sync(() => {
          const store = new GcraStoreModel(new WallClock()).of(cells)
          return { ...store, giveBack: () => Effect.void }
        })
      )),
      (titles) => expect(titles).toContain("clients share a key, and together take no more than there is")
    ))
})
