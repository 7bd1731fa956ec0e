/**
 * The store of shared rates as its interface describes it, by a clock that a test turns: Redis has one of its own.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Cell, GcraStore, Taken } from "../../src/internal/store/gcraStore.js"
import { StoreError } from "../../src/internal/store/storeError.js"
import type { ManualClock } from "./manualClock.js"

/** The answer of a store that grants one call at once. */
export const grantedAtOnce: Taken = {
  waits: [0],
  retryMillis: 0,
  remaining: 0,
  resetMillis: 0,
  tightest: 0,
  before: "",
  after: ""
}

/** A store that answers `take` as a test says, and forgets all else. */
export const taking = (take: GcraStore["take"]): GcraStore => ({
  take,
  giveBack: () => Effect.void,
  penalize: () => Effect.void,
  reset: () => Effect.void
})

export class GcraStoreModel {
  readonly commands: Array<string> = []
  /** The number of requests in each `take`. */
  readonly asked: Array<number> = []
  /** How long an answer takes, half of it on the way there. */
  answerMillis = 0
  away = false
  private readonly states = new Map<string, { anchor: number; debts: ReadonlyArray<number> }>()
  private readonly clock: ManualClock

  constructor(clock: ManualClock) {
    this.clock = clock
  }

  private nameOf(key: string): string {
    const state = this.states.get(key)
    return state === undefined ? "" : [state.anchor, ...state.debts].join(" ")
  }

  private debts(key: string, cells: ReadonlyArray<Cell>): Array<number> {
    const { anchor, debts } = this.states.get(key) ?? { anchor: 0, debts: cells.map(() => 0) }
    return debts.map((debt) => Math.max(0, debt - (this.clock.now / 1000 - anchor)))
  }

  private write(key: string, debts: ReadonlyArray<number>): void {
    this.states.set(key, { anchor: this.clock.now / 1000, debts })
  }

  private answer<A>(command: string, decide: () => A): Effect.Effect<A, StoreError> {
    const travel = this.answerMillis === 0 ? Effect.void : this.clock.sleep(Duration.millis(this.answerMillis / 2))
    return Effect.suspend(() => {
      this.commands.push(command)
      if (this.away) return Effect.fail(new StoreError({ operation: command, cause: new Error("away") }))
      return Effect.andThen(travel, Effect.flatMap(Effect.sync(decide), (answer) => Effect.as(travel, answer)))
    })
  }

  /** The store as one process sees it. */
  readonly of = (cells: ReadonlyArray<Cell>): GcraStore => ({
    take: (key, tokens, maxWaitMillis) =>
      this.answer("take", () => {
        this.asked.push(tokens.length)
        const before = this.nameOf(key)
        const debts = this.debts(key, cells)
        const waits: Array<number> = []
        let retryMillis = 0
        for (const n of tokens) {
          const wait = Math.max(0, ...cells.map((cell, i) => debts[i]! + (n - cell.burst) * cell.intervalMicros))
          if (wait > maxWaitMillis * 1000) {
            retryMillis = wait / 1000 - maxWaitMillis
            break
          }
          cells.forEach((cell, i) => debts[i] = Math.max(debts[i]!, wait) + n * cell.intervalMicros)
          waits.push(wait / 1000)
        }
        if (waits.length > 0) this.write(key, debts)
        const left = cells.map((cell, i) => Math.floor(cell.burst - debts[i]! / cell.intervalMicros))
        const remaining = Math.min(...left)
        return {
          waits,
          retryMillis,
          remaining,
          resetMillis: Math.max(...debts) / 1000,
          tightest: left.indexOf(remaining),
          before,
          after: this.nameOf(key)
        }
      }),
    giveBack: (key, tokens, after) =>
      this.answer("giveBack", () => {
        if (this.nameOf(key) !== after) return
        const debts = this.debts(key, cells)
        this.write(key, debts.map((debt, i) => Math.max(0, debt - tokens * cells[i]!.intervalMicros)))
      }),
    penalize: (key, millis) =>
      this.answer("penalize", () => {
        const debts = this.debts(key, cells)
        this.write(
          key,
          debts.map((debt, i) => {
            const { burst, intervalMicros } = cells[i]!
            return Math.max(debt, millis * 1000 + (burst - 1) * intervalMicros)
          })
        )
      }),
    reset: (key) => this.answer("reset", () => void this.states.delete(key))
  })
}
