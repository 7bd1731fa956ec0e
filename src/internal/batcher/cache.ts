/**
 * The results that a resolver keeps. Their number is bounded, the least recently used goes first, and each has its own time
 * to live.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { KeyMap } from "../data/keyMap.js"
import { append, type List, remove } from "../data/list.js"
import type { CacheOptions, Result } from "./options.js"
import type { Batch, Cached, Group, Item } from "./parts.js"
import { forEachInTurns } from "./turns.js"

export class Cache<Req extends Request.Any> {
  private readonly options: CacheOptions<Req>
  private readonly clock: Clock.Clock
  private size = 0
  /** The least recently used first. */
  private list: List<Cached<Req>> = { first: undefined, last: undefined }

  constructor(options: CacheOptions<Req>, clock: Clock.Clock) {
    this.options = options
    this.clock = clock
  }

  get now(): number {
    return this.clock.currentTimeMillisUnsafe()
  }

  /**
   * Keeps the results of a batch that ends, and returns its exit. If `timeToLive` throws for one of them, none is kept and
   * the exit is that defect. Nothing is kept if a tracer or an interruption changed the exit of `execute`.
   */
  remember(
    batch: Batch<Req>,
    exit: Exit.Exit<void, Request.Error<Req>>
  ): Effect.Effect<Exit.Exit<void, Request.Error<Req>>> {
    const { answer, group, items } = batch
    if (answer === undefined || !isSame(exit, answer)) return Effect.succeed(exit)
    const times = new Float64Array(items.length)
    const date = (now: number) => (item: Item<Req>, i: number): void => {
      const result = item.resultOf(exit)
      if (result !== undefined) times[i] = this.expires(result, item.request, now)
    }
    const keep = (item: Item<Req>, i: number): void => {
      const result = item.resultOf(exit)
      const expires = times[i]!
      if (result !== undefined && expires > 0 && !item.stale) this.set(group, item.key, item.hash, result, expires)
    }
    return Effect.matchCauseEffect(Effect.suspend(() => forEachInTurns(items, date(this.now))), {
      onFailure: (cause) => Effect.succeed(Exit.failCause(cause)),
      onSuccess: () => Effect.as(forEachInTurns(items, keep), exit)
    })
  }

  /** When a result expires; 0 for one that is not kept. */
  expires(result: Result<Req>, request: Req, now: number): number {
    const timeToLive = Exit.hasInterrupts(result) ? 0 : this.options.timeToLive(result, request)
    const millis = Duration.toMillis(Duration.fromInputUnsafe(timeToLive))
    return millis > 0 ? now + millis : 0
  }

  get(group: Group<Req>, key: unknown, hash: number, now: number): Result<Req> | undefined {
    const cached = this.find(group, key, hash)
    if (cached === undefined) return undefined
    if (cached.expires <= now) {
      this.remove(cached)
      return undefined
    }
    if (cached !== this.list.last) {
      remove(this.list, cached)
      append(this.list, cached)
    }
    return cached.exit
  }

  set(group: Group<Req>, key: unknown, hash: number, exit: Result<Req>, expires: number): void {
    const former = this.find(group, key, hash)
    // First, so that the group is not left without any.
    group.kept++
    if (former !== undefined) this.remove(former)
    const cached: Cached<Req> = {
      group,
      key,
      hash,
      exit,
      expires,
      chain: undefined,
      before: undefined,
      after: undefined
    }
    group.cached.add(cached)
    append(this.list, cached)
    this.size++
    if (this.size > this.options.capacity) this.remove(this.list.first!)
  }

  delete(group: Group<Req>, key: unknown, hash: number): void {
    const cached = this.find(group, key, hash)
    if (cached !== undefined) this.remove(cached)
  }

  private find(group: Group<Req>, key: unknown, hash: number): Cached<Req> | undefined {
    const map = group.cached
    const cached = map.get(key, hash)
    // The keys' own `Equal` may have cleared it.
    return map === group.cached ? cached : undefined
  }

  /** Empties the cache in a time that does not depend on its size. */
  clear(groups: ReadonlyArray<Group<Req>>): void {
    this.size = 0
    this.list = { first: undefined, last: undefined }
    for (const group of groups) {
      group.cached = new KeyMap()
      group.kept = 0
      group.checkRest()
    }
  }

  private remove(cached: Cached<Req>): void {
    cached.group.cached.remove(cached)
    remove(this.list, cached)
    this.size--
    cached.group.kept--
    cached.group.checkRest()
  }
}

/** Whether nothing was added to an exit: an addition to a failure is one more reason. */
const isSame = (exit: Exit.Exit<void, unknown>, answer: Exit.Exit<void, unknown>): boolean =>
  Exit.isSuccess(exit)
    ? Exit.isSuccess(answer)
    : Exit.isFailure(answer) && exit.cause.reasons.length === answer.cause.reasons.length
