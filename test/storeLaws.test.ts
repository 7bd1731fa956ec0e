/**
 * The laws of stores: the models of the other tests keep them, and stores that break one are found out.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Cell, GcraStore } from "../src/internal/store/gcraStore.js"
import type { PermitStore } from "../src/internal/store/permitStore.js"
import type { Joined, ReducerStore } from "../src/internal/store/reducerStore.js"
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
const models = new Map<string, PermitStoreModel>()
const permitStore = ({ leaseMillis, name, onWake }: Laws.PermitStoreOptions) =>
  Effect.sync(() => {
    const model = models.get(name) ?? new PermitStoreModel(new WallClock(), leaseMillis)
    models.set(name, model)
    return model.of(`n${nodes++}`, onWake)
  })

describe("the models keep the laws", () => {
  checked("ReducerStore", Laws.reducerStore(reducerStore))
  checked("GcraStore", Laws.gcraStore(gcraStore))
  // A model has leases of one length.
  checked("PermitStore", Laws.permitStore(permitStore).filter(({ title }) => !title.includes("its own lease")))
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

  /** What the law with this title says of a store. */
  const saying = (laws: ReadonlyArray<Laws.Law>, title: RegExp) =>
    Effect.map(
      Effect.forEach(laws.filter((_) => title.test(_.title)), ({ check }) => Effect.flip(Effect.scoped(check))),
      (errors) => errors.map(String).join()
    )

  it.live.each<[title: RegExp, error: string]>([
    [/without `after`/, "the fence grows and is safe: expected true, got [17"],
    [/the first party leads/, "the fence of the leader: expected 17"]
  ])("its fences are no numbers, says the law of %s", ([title, error]) => {
    let joins = 0
    const laws = Laws.reducerStore((options) =>
      Effect.map(reducerStore(options), (store) => ({
        ...store,
        join: (...args) =>
          Effect.map(store.join(...args), (joined): Joined =>
            // Sound for a test of what is not: a driver may answer so for an integer of 64 bits.
            joins++ % 2 === 0 ? joined : { ...joined, fence: BigInt(joined.fence) as never })
      }))
    )
    return Effect.map(saying(laws, title), (told) => expect(told).toContain(error))
  })

  it.live.each<[what: string, f: (store: GcraStore) => Partial<GcraStore>, title: RegExp, error: string]>([
    [
      "it gives nothing back",
      () => ({ giveBack: () => Effect.void }),
      /more is never given/,
      "at once: expected [0,0,0]"
    ],
    [
      "it tells a heavy request the time of a light one",
      (store) => ({
        take: (...args) =>
          Effect.map(store.take(...args), (_) => _.waits.length > 0 ? _ : { ..._, retryMillis: _.retryMillis % 2000 })
      }),
      /the first request that/,
      "the retry is 5000, or up to 1000 less"
    ]
  ])("%s", ([, f, title, error]) => {
    const laws = Laws.gcraStore((cells) => Effect.map(gcraStore(cells), (store) => ({ ...store, ...f(store) })))
    return Effect.map(saying(laws, title), (told) => expect(told).toContain(error))
  })

  it.live.each<[what: string, f: (store: PermitStore) => Partial<PermitStore>, title: RegExp, error: string]>([
    [
      "it grants one permit too many",
      (store) => ({ acquire: (permits, limit) => store.acquire(permits, limit + 1) }),
      /of many/,
      "LawError: granted: expected 7, got 8"
    ],
    [
      "a process never leaves its queue",
      (store) => ({
        acquire: (permits, limit) => store.acquire(permits.length > 0 ? permits : [{ id: "x", weight: 2 }], limit)
      }),
      /leaves the queue/,
      "a waiting process is woken"
    ],
    [
      "what is given back under a penalty is lost",
      (store) => {
        let penalized = false
        return {
          penalize: (millis) => Effect.tap(store.penalize(millis), () => Effect.sync(() => void (penalized = true))),
          release: (held) => penalized ? Effect.void : store.release(held)
        }
      },
      /the longest penalty/,
      "granted: expected 1, got 0"
    ]
  ])("%s", ([, f, title, error]) => {
    const laws = Laws.permitStore((options) => Effect.map(permitStore(options), (store) => ({ ...store, ...f(store) })))
    return Effect.map(saying(laws, title), (told) => expect(told).toContain(error))
  })

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
