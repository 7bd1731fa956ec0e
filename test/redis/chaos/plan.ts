/**
 * The plan of a chaos run: what happens when, and to whom. It follows from the seed alone.
 */
import { random } from "../../support/random.ts"

/** To a process, by its place. */
const processActions = [
  "kill",
  "start",
  "end",
  "freeze",
  "thaw",
  "cut",
  "mend",
  "deaden",
  "loseReply",
  "setClock"
] as const
/** To the server. */
const serverActions = [
  "freezeServer",
  "thawServer",
  "killServer",
  "startEmpty",
  "shutDown",
  "startKept",
  "failOver",
  "failOverDead",
  "flushAll",
  "flushScripts",
  "killClients",
  "killSubscribers",
  "lock",
  "pause",
  "stepClock"
] as const

export const stores = ["redis", "postgres"] as const
export type Store = typeof stores[number]

export interface Step {
  /** Milliseconds from the start. */
  readonly at: number
  readonly action: typeof processActions[number] | typeof serverActions[number]
  /** The place of the process, from 0. */
  readonly place?: number
  /** Milliseconds of a pause, seconds of a step of a clock, how many scripts until a reply is lost. */
  readonly amount?: number
}

export interface Plan {
  readonly seed: number
  readonly millis: number
  readonly places: number
  readonly store: Store
  /** What the shared calls do when the server is away. */
  readonly onStoreError: "fail" | "local"
  readonly steps: ReadonlyArray<Step>
}

/** Leases of all services, in milliseconds. */
export const leaseMillis = 1000

type Draw = (below: number) => number

/** How often a fault is drawn, and its steps. */
const faultsOfProcess: ReadonlyArray<readonly [number, (draw: Draw) => ReadonlyArray<Omit<Step, "place">>]> = [
  [4, (draw) => [{ at: 0, action: "kill" }, { at: 200 + draw(1500), action: "start" }]],
  [2, (draw) => [{ at: 0, action: "end" }, { at: 500 + draw(1000), action: "start" }]],
  [3, (draw) => [{ at: 0, action: "freeze" }, { at: 50 + draw(500), action: "thaw" }]],
  [4, (draw) => [{ at: 0, action: "freeze" }, { at: leaseMillis + draw(1500), action: "thaw" }]],
  [1, (draw) => [{ at: 0, action: "freeze" }, { at: draw(1000), action: "kill" }, { at: 1100, action: "start" }]],
  [3, (draw) => [{ at: 0, action: "cut" }, { at: 50 + draw(500), action: "mend" }]],
  [2, (draw) => [{ at: 0, action: "cut" }, { at: leaseMillis + draw(1500), action: "mend" }]],
  [1, () => [{ at: 0, action: "deaden" }]],
  [3, (draw) => [{ at: 0, action: "loseReply", amount: 1 + draw(4) }]],
  [2, (draw) => [{ at: 0, action: "setClock", amount: draw(7200) - 3600 }]]
]

type Faults = ReadonlyArray<readonly [number, (draw: Draw) => ReadonlyArray<Step>]>

// Whole tens: the record tells from the server's time when it stepped.
const stepsOfClock: Faults[number] = [
  2,
  (draw) => [{ at: 0, action: "stepClock", amount: [-30, -10, 10, 30][draw(4)]! }]
]

const faultsOfServer: Readonly<Record<Store, Faults>> = {
  redis: [
    [2, (draw) => [{ at: 0, action: "freezeServer" }, { at: 50 + draw(1800), action: "thawServer" }]],
    [3, (draw) => [{ at: 0, action: "killServer" }, { at: 50 + draw(800), action: "startEmpty" }]],
    [1, (draw) => [{ at: 0, action: "killServer" }, { at: leaseMillis + draw(1800), action: "startEmpty" }]],
    [3, (draw) => [{ at: 0, action: "shutDown" }, { at: 50 + draw(1500), action: "startKept" }]],
    [2, () => [{ at: 0, action: "failOver" }]],
    [2, () => [{ at: 0, action: "failOverDead" }]],
    [2, () => [{ at: 0, action: "flushAll" }]],
    [2, () => [{ at: 0, action: "flushScripts" }]],
    [2, () => [{ at: 0, action: "killClients" }]],
    [2, () => [{ at: 0, action: "killSubscribers" }]],
    [3, (draw) => [{ at: 0, action: "pause", amount: 50 + draw(1500) }]],
    stepsOfClock
  ],
  postgres: [
    [3, (draw) => [{ at: 0, action: "freezeServer" }, { at: 50 + draw(1800), action: "thawServer" }]],
    [3, (draw) => [{ at: 0, action: "killServer" }, { at: 50 + draw(1500), action: "startKept" }]],
    [3, (draw) => [{ at: 0, action: "shutDown" }, { at: 50 + draw(1500), action: "startKept" }]],
    [2, () => [{ at: 0, action: "flushAll" }]],
    [3, () => [{ at: 0, action: "killClients" }]],
    [2, () => [{ at: 0, action: "killSubscribers" }]],
    [3, (draw) => [{ at: 0, action: "lock", amount: 50 + draw(1500) }]],
    stepsOfClock
  ]
}

const pick = <A>(weighted: ReadonlyArray<readonly [number, A]>, draw: Draw): A => {
  let at = draw(weighted.reduce((sum, [weight]) => sum + weight, 0))
  return weighted.find(([weight]) => (at -= weight) < 0)![1]
}

/** Time after the last step of a server's fault in which it is left alone: a replica follows, a clock is read anew. */
const settleMillis = 600

export const plan = (seed: number, millis: number, places: number, store: Store = "redis"): Plan => {
  const draw = random(seed)
  // The first numbers of seeds that are close are close.
  for (let i = 0; i < 10; i++) draw(2)
  const onStoreError = draw(3) === 0 ? "local" : "fail"
  const steps: Array<Step> = []
  const freeAt = Array.from({ length: places }, () => 0)
  let serverFreeAt = 0
  for (let at = 200; at < millis; at += 20) {
    const place = draw(places + 2)
    const isServer = place >= places
    const fault = isServer ? pick(faultsOfServer[store], draw)(draw) : pick(faultsOfProcess, draw)(draw)
    const last = at + fault.at(-1)!.at + (isServer ? fault[0]!.amount ?? 0 : 0)
    if (last > millis || at < (isServer ? serverFreeAt : freeAt[place]!)) continue
    if (isServer) serverFreeAt = last + settleMillis
    else freeAt[place] = last + 100
    for (const step of fault) steps.push({ ...step, at: at + step.at, ...(isServer ? {} : { place }) })
    // Now and then everything has time to heal.
    at += draw(20) === 0 ? 4000 : draw(400)
  }
  return { seed, millis, places, store, onStoreError, steps: steps.toSorted((a, b) => a.at - b.at) }
}

/** A step as a line of text. */
export const show = ({ action, amount, at, place }: Step): string =>
  `${String(at).padStart(6)} ms  ${action}${place === undefined ? "" : ` w${place}`}${
    amount === undefined ? "" : ` ${amount}`
  }`
