/**
 * The store of shared permits as its interface describes it, by a clock that a test turns.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Held, PermitStore } from "../../src/internal/store/permitStore.js"
import { StoreError } from "../../src/internal/store/storeError.js"
import type { ManualClock } from "./manualClock.js"

interface Lease {
  readonly weight: number
  readonly end: number
}

interface Waiting {
  readonly node: string
  readonly need: number
  readonly wake: () => void
  readonly end: number
}

export class PermitStoreModel {
  readonly leaseMillis: number
  /** How long an answer takes, half of it on the way there. */
  answerMillis = 0
  away = false
  /** Whether the next wake-up is lost. */
  loses: () => boolean = () => false
  readonly held = new Map<string, Lease>()
  readonly waiting: Array<Waiting> = []
  private penaltyEnd = 0
  private readonly clock: ManualClock

  constructor(clock: ManualClock, leaseMillis: number) {
    this.clock = clock
    this.leaseMillis = leaseMillis
  }

  private get now(): number {
    return this.clock.now / 1e6
  }

  get weight(): number {
    let weight = 0
    for (const lease of this.held.values()) weight += lease.weight
    return weight
  }

  private answer<A>(operation: string, decide: () => A): Effect.Effect<A, StoreError> {
    const travel = this.answerMillis === 0 ? Effect.void : this.clock.sleep(Duration.millis(this.answerMillis / 2))
    return Effect.suspend(() => {
      if (this.away) return Effect.fail(new StoreError({ operation, cause: new Error("away") }))
      return Effect.andThen(travel, Effect.flatMap(Effect.sync(decide), (answer) => Effect.as(travel, answer)))
    })
  }

  /** Tells those who wait in front of `node` of free weight. Returns what is left of it. */
  private pass(free: number, node: string | undefined, told: boolean): number {
    for (const { need, node: other, wake } of Array.from(this.waiting)) {
      if (free <= 0 || other === node) break
      if (told && !this.loses()) wake()
      free -= need
    }
    return free
  }

  private leave(node: string): boolean {
    const at = this.waiting.findIndex((other) => other.node === node)
    if (at !== -1) this.waiting.splice(at, 1)
    return at !== -1
  }

  private put({ id, weight }: Held, leaseMillis: number): void {
    this.held.set(id, { weight, end: this.now + leaseMillis })
  }

  /** What nobody has renewed for a lease is nobody's. */
  expire(): void {
    for (const [id, { end }] of this.held) if (end <= this.now) this.held.delete(id)
    for (const { end, node } of Array.from(this.waiting)) if (end <= this.now) this.leave(node)
  }

  private acquire(
    { leaseMillis, node, wake }: { readonly node: string; readonly wake: () => void; readonly leaseMillis: number },
    permits: ReadonlyArray<Held>,
    limit: number
  ) {
    this.expire()
    const penaltyMillis = Math.max(0, this.penaltyEnd - this.now)
    if (penaltyMillis > 0) {
      for (const { id } of permits) this.held.delete(id)
      this.leave(node)
      return { granted: 0, pollMillis: leaseMillis, penaltyMillis }
    }
    let free = this.pass(limit - this.weight, node, false)
    let granted = 0
    for (const permit of permits) {
      if (!this.held.has(permit.id) && permit.weight > free) break
      if (!this.held.has(permit.id)) free -= permit.weight
      this.put(permit, leaseMillis)
      granted++
    }
    const need = permits[granted]?.weight
    const place = this.waiting.findIndex((other) => other.node === node)
    if (need === undefined || granted > 0) this.leave(node)
    if (need !== undefined) {
      const waiting = { node, need, wake, end: this.now + leaseMillis }
      if (granted === 0 && place !== -1) this.waiting[place] = waiting
      else this.waiting.push(waiting)
    }
    if (place !== -1 && (need === undefined || granted > 0)) this.pass(limit - this.weight, node, true)
    const others = this.waiting.filter((other) => other.node !== node)
    const soonest = Math.min(...[...this.held.values(), ...others].map(({ end }) => end))
    return { granted, pollMillis: Math.min(leaseMillis, soonest - this.now), penaltyMillis: 0 }
  }

  /** The store as one process sees it, whose leases may have a length of their own. */
  readonly of = (node: string, wake: () => void, leaseMillis = this.leaseMillis): PermitStore => ({
    leaseMillis,
    node,
    close() {},
    acquire: (permits, limit) =>
      this.answer("acquire", () => this.acquire({ node, wake, leaseMillis }, permits, limit)),
    renew: (permits, limit) =>
      this.answer("renew", () =>
        permits.flatMap(({ id, weight }) => {
          const lease = this.held.get(id)
          if (lease === undefined && this.weight + weight > limit) return [id]
          this.put({ id, weight: Math.min(weight, lease?.weight ?? weight) }, leaseMillis)
          return []
        })),
    release: (remaining) =>
      this.answer("release", () => {
        const before = this.weight
        for (const { id, weight } of remaining) {
          const lease = this.held.get(id)
          if (weight === 0) this.held.delete(id)
          else if (lease !== undefined && weight < lease.weight) this.held.set(id, { ...lease, weight })
        }
        this.pass(before - this.weight, undefined, true)
      }),
    penalize: (millis) =>
      this.answer("penalize", () => {
        this.penaltyEnd = Math.max(this.penaltyEnd, this.now + millis)
        this.pass(Infinity, undefined, true)
      })
  })
}
