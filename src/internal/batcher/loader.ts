/**
 * The engine of one resolver, on the hooks that core has for resolvers.
 *
 * Core collects look-ups and says when a batch runs; whoever wraps the resolver changes that at will. Ours is what core
 * asks on the way: `preCheck` (join what is in flight), `batchKey` (who may share, and, asked again, who leaves),
 * `collectWhile` (distinct requests) and `runAll` (merge, queue, run, tell).
 *
 * A batch collects twice: in core, for its window, and then here, for as long as it is in the queue of its scheduler. What
 * core hands on meanwhile travels in it.
 */
import type { NonEmptyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import { Batch } from "./batch.js"
import { BatcherError, LookupCycle } from "./error.js"
import { guarded } from "../data/guarded.js"
import { hashOf } from "./key.js"
import { callerOf, Runner } from "./runner.js"
import type { Entry } from "./runner.js"
import { Bulk, Caller, Group, Item } from "./state.js"
import type { Result } from "./state.js"
import { Tally } from "./tally.js"
import { pause } from "./window.js"
import { stepsOf } from "../waits/cycle.js"
import { closes, cycleOf, isAbove, liveNode, nodeOf } from "../waits/waits.js"
import type { Node } from "../waits/waits.js"

export class Loader<Req extends Request.Any, R> extends Runner<Req, R> {
  /** What travels with the look-up that is handed to core next. */
  private carrying: Bulk<Req> | undefined = undefined
  private readonly tallies = new WeakMap<object, Tally>()
  /** Ours, as it was made: not wrapped in what has its own idea of a batch. */
  private resolver: RequestResolver<Req> | undefined = undefined

  // ------------------------------------------------------------------------------------------------------- core's hooks

  /**
   * Answers at once, or joins what is in flight; true hands the look-up on to core, to be collected. Core calls it on
   * `resolver`, and so does whoever wraps that.
   */
  preCheck(entry: Entry<Req>, resolver: unknown): boolean {
    const bulk = this.carrying
    // First of all, so that nobody else comes to carry it.
    this.carrying = undefined
    if (this.closed) return answer(entry, Exit.interrupt())
    if (bulk !== undefined) {
      this.collect(new Caller(entry, nodeOf(entry.context), bulk))
      return true
    }
    // Requests, services and clocks are not ours and may throw, look up in turn, or end what is found: nothing has changed yet.
    const { memory } = this
    const key = this.keys.of(entry.request)
    const hash = hashOf(key)
    const now = memory === undefined ? 0 : memory.now
    if (memory !== undefined) {
      const { all } = this.groups
      if (all === undefined) this.look(entry.context)
      const exit = memory.get(all ?? this.seenGroup!, key, hash, now)
      if (exit !== undefined) {
        // No batch will end that drops what was seen.
        if (all === undefined && this.running.size === 0) this.forget()
        return answer(entry, exit)
      }
    }
    // Not before: where what was kept has expired, its group may have come to rest.
    this.look(entry.context)
    const group = this.seenGroup!
    const node = liveNode(this.seenNode)
    const item = group.inFlight.get(key, hash)
    const caller = new Caller(entry, node, undefined)
    const batch = item?.batch
    // It may be that nobody waits for this look-up, as only its fiber knows. Asked anew it does not close the cycle; if it
    // was part of one, what it asks for comes here again, in a batch that was asked anew.
    const cycle = node !== undefined && batch !== undefined && closes(node, batch)
    if (cycle && isAbove(node, wasAskedAnew)) return answer(entry, Exit.die(this.cycle(entry.request, node, batch)))
    // What a wrapper collects has a way of its own to go.
    if (
      cycle || item === undefined || item.listed === undefined || (batch === undefined && resolver !== this.resolver)
    ) {
      const own = new Item(group, key, hash, entry.request)
      own.tied = node !== undefined
      if (cycle) own.anew = batch
      own.add(caller)
      this.collect(caller)
      return true
    }
    if (node !== undefined) item.tied = true
    if (batch === undefined) {
      group.joins++
    } else if (node !== undefined) {
      // It collects no more: what came to travel in it might wait for the batch that now waits for it.
      if (batch.collects && !caller.independent) {
        batch.collects = false
        if (this.waiting.get(group) === batch) this.waiting.delete(group)
      }
    }
    entry[callerOf] = caller
    caller.asked = true
    item.add(caller)
    return false
  }

  private cycle(request: Req, from: Node, to: Node): BatcherError {
    const path = stepsOf(cycleOf(from, to), isTold)
    return new BatcherError({ reason: new LookupCycle({ resolver: this.nameFor(request), request, path }) })
  }

  private collect(caller: Caller<Req>): void {
    // Sound: core's entry, which goes on to the other hooks.
    const entry = caller.entry as Entry<Req>
    entry[callerOf] = caller
    caller.group.joins++
    this.current = caller
  }

  /** Says who may share. Asked a second time about an entry, its caller is leaving. Core asks `resolver`. */
  batchKey(entry: Entry<Req>, resolver: unknown): unknown {
    const caller = entry[callerOf]
    if (caller === undefined || caller.group.owner !== this) {
      // A wrapper answered before we were asked.
      this.look(entry.context)
      return this.seenGroup
    }
    const { bulk, group, item } = caller
    if (caller.asked) {
      this.leave(caller)
      // No batch of core's has this key: those who joined what core collects still need the entry there.
      if (item?.collected === true) return caller
      if (item?.batch === undefined) item?.withdraw(entry)
    } else if (resolver === this.resolver && item?.anew === undefined) {
      if (bulk !== undefined) bulk.direct = true
      else if (this.options.turns !== undefined && group.inFlight.get(item!.key, item!.hash) === undefined) {
        item!.collect()
      }
    }
    caller.asked = true
    return item?.anew ?? group
  }

  /** Counts distinct requests, core's set holds all of them. */
  collectWhile(entries: ReadonlySet<Request.Entry<Req>>): boolean {
    const max = this.options.maxBatchSize
    const caller = this.current
    // Sound: it is core's own, which core fills and empties.
    if (caller?.item?.collected === true) caller.item.pending ??= entries as Set<Request.Entry<Req>>
    if (max === Infinity) return true
    if (caller?.item === undefined || !entries.has(caller.entry)) return entries.size < max
    // Core uses its sets again: one that holds a single entry belongs to a new batch.
    let tally = entries.size === 1 ? undefined : this.tallies.get(entries)
    if (tally === undefined) this.tallies.set(entries, tally = new Tally())
    caller.item.slot = tally.add(caller.item.key, caller.item.hash)
    return tally.size < max
  }

  /** The group of the look-up that core is asking about, whose services are not asked again: they may throw. */
  private groupOf(context: Context.Context<never>): Group<Req> {
    const caller = this.current
    if (caller !== undefined && this.groups.isSame(caller.entry.context, context)) return caller.group
    this.look(context)
    return this.seenGroup!
  }

  /** Windows are timed by the clock of the place where the resolver was made, whatever clock the first look-up has. */
  private get clock(): Clock.Clock {
    return Context.get(this.options.context, Clock.Clock)
  }

  get delay(): Effect.Effect<void> {
    const { turns, window } = this.options
    if (turns === undefined) return Effect.void
    const wait = (group: Group<Req>, window: "idle" | Duration.Duration): Effect.Effect<void> =>
      window === "idle" ? turns.idle(group) : pause(this.clock, window, this.closing)
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        // Core forks it with the context of the look-up that opens the batch, which is the one that it has just asked about.
        const group = this.groupOf(fiber.context)
        group.open++
        // If there is one to go with, what is left to wait for is that it starts meanwhile.
        const collect = window === "idle" || !this.waiting.has(group)
          ? wait(group, window)
          : Effect.flatMap(wait(group, "idle"), () => this.waiting.has(group) ? Effect.void : wait(group, window))
        return Effect.onExit(restore(collect), () => {
          group.open--
          // Where a wrapper collects, it may be that we do not come to hear of the batch.
          group.checkRest()
          return Effect.void
        })
      })
    )
  }

  runAll(entries: NonEmptyArray<Entry<Req>>, key: unknown): Effect.Effect<void, Request.Error<Req>> {
    return Effect.withFiber((fiber) => {
      const callers: Array<Caller<Req>> = []
      const strangers: Array<Entry<Req>> = []
      for (const entry of entries) {
        const caller = entry[callerOf]
        if (caller === undefined || caller.group.owner !== this || caller.item?.batch !== undefined) {
          strangers.push(entry)
        } else callers.push(caller)
      }
      // Where a wrapper has put its own key in place of ours, what is isolated stays so.
      const apart = this.options.isolate.length > 0 && !(key instanceof Group && key.owner === this)
      if (strangers.length === 0 && !apart) return this.travel(callers, fiber)
      const parts = new Map<unknown, Array<Caller<Req>>>()
      for (const caller of callers) {
        const group = apart ? caller.group : undefined
        const part = parts.get(group)
        if (part === undefined) parts.set(group, [caller])
        else part.push(caller)
      }
      const all = Array.from(parts.values(), (part) => this.travel(part, fiber))
      if (strangers.length > 0) all.push(this.meet(strangers))
      return Effect.forEach(all, Effect.exit, { concurrency: "unbounded", discard: true })
    })
  }

  /**
   * Look-ups of a wrapper that asked none of our hooks, or that comes with them once more: each is made as any other, so that
   * it finds what is kept and in flight, and leaves when the wrapper is interrupted.
   */
  private meet(entries: ReadonlyArray<Entry<Req>>): Effect.Effect<void> {
    return Effect.callback((resume) => {
      let waiting = entries.length
      const tell = (entry: Entry<Req>, exit: Result<Req>): void => {
        try {
          entry.completeUnsafe(exit)
        } finally {
          if (--waiting === 0) resume(Effect.void)
        }
      }
      const leave = entries.map((entry) =>
        guarded(
          () =>
            Effect.requestUnsafe(entry.request, {
              resolver: this.resolver!,
              context: entry.context,
              onExit: (exit) => tell(entry, exit)
            }),
          (error) => {
            tell(entry, Exit.die(error))
            return constVoid
          }
        )
      )
      return Effect.sync(() => leave.forEach((go) => guarded(go, constVoid)))
    })
  }

  // -------------------------------------------------------------------------------------------------------------- cache

  /** Tells what a request's exit is: to the cache, and to those who look it up from here on. */
  primeUnsafe(request: Req, result: Result<Req>, context: Context.Context<never>): void {
    const memory = this.memory!
    const expires = memory.expires(result, request, memory.now)
    const { group, hash, key } = this.outdate(request, context, true)
    if (!this.closed && expires > 0) memory.set(group, key, hash, result, expires)
    group.checkRest()
  }

  clearUnsafe(request: Req, context: Context.Context<never>): void {
    this.outdate(request, context, false).group.checkRest()
  }

  clearAllUnsafe(): void {
    const groups = this.groups.values()
    this.memory!.clear(groups)
    for (const group of groups) {
      for (const item of group.inFlight.values()) item.outdate(false)
    }
  }

  private outdate(request: Req, context: Context.Context<never>, primed: boolean) {
    const key = this.keys.of(request)
    const hash = hashOf(key)
    this.look(context)
    const group = this.seenGroup!
    if (this.running.size === 0) this.forget()
    this.memory!.delete(group, key, hash)
    group.inFlight.get(key, hash)?.outdate(primed)
    return { group: this.groups.registered(group), key, hash }
  }

  // ----------------------------------------------------------------------------------------------------- many at a time

  /**
   * Those of many look-ups that can travel together, and the others: what has its answer or is in flight already, or,
   * where batches are bounded, all.
   */
  gather(
    requests: ReadonlyArray<Req>,
    context: Context.Context<never>
  ): [bulk: Bulk<Req>, others: Array<number>] | undefined {
    if (this.closed || this.options.turns === undefined || this.options.maxBatchSize !== Infinity) return undefined
    const keys = requests.map((request) => this.keys.of(request))
    const hashes = keys.map(hashOf)
    this.look(context)
    const group = this.seenGroup!
    const others: Array<number> = []
    if (group.running === 0 && group.collected === 0 && group.kept === 0) {
      return [new Bulk(group, requests.slice(), keys, hashes), others]
    }
    const indices: Array<number> = []
    for (let i = 0; i < requests.length; i++) {
      const known = group.inFlight.get(keys[i], hashes[i]!) ?? group.cached.get(keys[i], hashes[i]!)
      if (known === undefined) indices.push(i)
      else others.push(i)
    }
    const bulk = new Bulk(
      group,
      indices.map((i) => requests[i]!),
      indices.map((i) => keys[i]),
      indices.map((i) => hashes[i]!),
      indices
    )
    return [bulk, others]
  }

  /** Runs a synchronous step that hands the first look-up of a bulk to core. */
  carry<A>(bulk: Bulk<Req>, step: () => A): A {
    this.carrying = bulk
    return step()
  }

  /** Says which resolver this is the loader of, and makes that known to {@link loaderOf}. */
  register(resolver: RequestResolver<Req>): RequestResolver<Req> {
    this.resolver = resolver
    loaders.set(resolver, this)
    return resolver
  }
}

const loaders = /*#__PURE__*/ new WeakMap<object, unknown>()

/** The loader of a resolver that is one of ours, as it was made: not wrapped in what core must be asked about. */
export const loaderOf = <Req extends Request.Any>(resolver: RequestResolver<Req>): Loader<Req, never> | undefined =>
  // Sound: `register` puts there what belongs to the resolver's requests.
  loaders.get(resolver) as Loader<Req, never> | undefined

const wasAskedAnew = (node: Node): boolean => node instanceof Batch && node.anew

/** Whether an error tells of a node: jobs are how a batch runs. */
const isTold = (node: Node): boolean => node.kind !== "job"

/** Ends a look-up before anybody collects it. It does not leave: core need not ask. */
const answer = <Req extends Request.Any>(entry: Request.Entry<Req>, exit: Result<Req>): false => {
  entry.uninterruptible = true
  entry.completeUnsafe(exit)
  return false
}
