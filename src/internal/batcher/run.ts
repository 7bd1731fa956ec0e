/**
 * A batch that core has collected: which requests it asks for, and for whom.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Request from "effect/Request"
import * as Tracer from "effect/Tracer"
import { Batch } from "./batch.js"
import { Item } from "./state.js"
import type { Bulk, Caller, Callers, Group, Result, Ride } from "./state.js"
import { andThen, forEachInTurns } from "./turns.js"
import { KeyMap } from "../data/keyMap.js"

/** A batch from the moment core has collected it: which requests it asks for, and for whom. */
export class Run<Req extends Request.Any> extends Batch implements Callers<Req>, Ride<Req> {
  readonly group: Group<Req>
  /** In order of arrival. */
  items: Array<Item<Req>> = []
  /** Those who brought many look-ups. */
  readonly carriers = new Set<Caller<Req>>()
  /** `false`: equal look-ups are not merged. */
  private readonly merges: boolean
  /** What `execute` came to, whatever a tracer or an interruption made of it. */
  answer: Exit.Exit<void, Request.Error<Req>> | undefined = undefined
  /** How many of the items all callers have been told of. */
  private told = 0
  /** What is in flight in another batch nevertheless: it came in flight there while it was collected here. */
  private apart: KeyMap<Item<Req>> | undefined = undefined

  constructor(fiber: Fiber.Fiber<unknown, unknown>, group: Group<Req>, merges: boolean, collects: boolean) {
    super(fiber, collects)
    this.group = group
    this.merges = merges
  }

  /** Messages name the resolver and what is asked of it. */
  get name(): string | undefined {
    const first = this.items[0]
    return first === undefined ? undefined : this.group.owner.nameFor(first.request)
  }

  get key(): unknown {
    const { items } = this
    const keys = items.slice(0, 3).map((_) => _.key)
    if (items.length > 3) keys.push(`and ${items.length - 3} more`)
    return keys.length < 2 ? keys[0] : keys
  }

  /**
   * Takes in what core has collected. Its equals join it from here on. Between two turns of that callers may leave, so that
   * it must not end for want of them.
   */
  takeAll(callers: ReadonlyArray<Caller<Req>>): Effect.Effect<void> {
    this.callers++
    return andThen(
      forEachInTurns(callers, (caller) => {
        if (this.collects && !mayJoin(caller)) this.collects = false
        this.board(caller)
      }),
      () =>
        andThen(
          forEachInTurns(callers, (caller) => {
            if (caller.item?.anew !== undefined) this.anew = true
            const { bulk } = caller
            if (bulk !== undefined) return forEachInTurns(bulk.requests, (_, i) => this.takeOf(caller, bulk, i))
            this.take(caller, Infinity)
            return undefined
          }),
          () => {
            this.callers--
            return Effect.void
          }
        )
    )
  }

  /** So that a bulk finds what came after it. */
  board({ item }: Caller<Req>): void {
    if (item?.collected === true && this.setApart(item.key, item.hash) === undefined) item.board(this)
  }

  /** Takes in what core has collected, unless that makes more than `most` distinct requests. */
  take(caller: Caller<Req>, most: number): boolean {
    const { bulk, item } = caller
    if (bulk !== undefined) {
      for (let i = 0; i < bulk.requests.length; i++) this.takeOf(caller, bulk, i)
    } else if (item !== undefined && item.callers > 0) {
      const equal = item.batch === this ? item : this.find(item.key, item.hash)
      if (equal === undefined && this.size >= most) return false
      if (equal === undefined || equal === item) this.place(item)
      else equal.absorb(item)
    }
    return true
  }

  /** Takes in one of the look-ups that a caller brought, unless that has left. */
  private takeOf(caller: Caller<Req>, bulk: Bulk<Req>, i: number): void {
    if (caller.left) return
    const key = bulk.keys[i]
    const hash = bulk.hashes[i]!
    let item = this.find(key, hash)
    if (item === undefined) {
      item = new Item(this.group, key, hash, bulk.requests[i]!)
      // Told while core collected it.
      item.stale = this.group.kept > 0 && this.group.cached.get(key, hash) !== undefined
    }
    this.place(item)
    item.retain()
    bulk.items.push(item)
    if (i > 0) return
    this.carriers.add(caller)
    caller.item = item
    caller.waitFor(this)
  }

  private find(key: unknown, hash: number): Item<Req> | undefined {
    if (!this.merges) return undefined
    const item = this.group.inFlight.get(key, hash)
    return item?.batch === this ? item : this.setApart(key, hash)
  }

  private setApart(key: unknown, hash: number): Item<Req> | undefined {
    return this.apart === undefined ? undefined : this.apart.get(key, hash)
  }

  /** Asks for it, after what is asked for already. */
  private place(item: Item<Req>): void {
    if (item.placed) return
    item.placed = true
    this.items.push(item)
    if (item.batch !== this) item.board(this)
    if (!this.merges || item.listed !== undefined) return
    const { inFlight } = this.group
    item.list(inFlight.get(item.key, item.hash) === undefined ? inFlight : this.apart ??= new KeyMap())
  }

  /** Lets one of its callers go. */
  drop(caller: Caller<Req>): void {
    if (caller.bulk === undefined) {
      caller.item!.remove(caller)
    } else {
      this.carriers.delete(caller)
      for (const item of caller.bulk.items) item.release()
    }
    // While it waits many may come and go.
    if (!this.sent && this.items.length > 2 * this.size + 16) this.items = this.wanted
  }

  /** What somebody waits for. */
  get wanted(): Array<Item<Req>> {
    return this.items.filter((item) => item.callers > 0)
  }

  forEach(f: (caller: Caller<Req>) => void): void {
    for (const item of this.items) item.forEach(f)
    this.carriers.forEach(f)
  }

  /** Those who asked, as a span knows them. */
  get links(): ReadonlyArray<Tracer.SpanLink> {
    const spans = new Set<Tracer.AnySpan>()
    this.forEach(({ entry }) => {
      const span = Context.getOrUndefined(entry.context, Tracer.ParentSpan)
      if (span !== undefined) spans.add(span)
    })
    return Array.from(spans, (span) => ({ span, attributes: {} }))
  }

  /** Nobody can join any more. */
  unlist(): void {
    for (const item of this.items) item.unlist()
  }

  /** Tells callers what they wait for, in order of arrival of what they asked for, and returns whether all have been told. */
  tell(exit: Exit.Exit<void, Request.Error<Req>>, most: number): boolean {
    for (const { items } = this; this.told < items.length; this.told++) {
      const item = items[this.told]!
      item.exit = resultOf(item, exit) ?? Exit.die(new Error("Batcher: a batch ended without an answer"))
      most -= item.end(item.exit, most)
      if (item.first !== undefined) return false
    }
    for (const caller of this.carriers) {
      this.carriers.delete(caller)
      // What they are told is what all of their look-ups are told that have no item: some are not taken in where it failed.
      caller.end(Exit.isFailure(exit) ? Exit.failCause(exit.cause) : Exit.interrupt())
    }
    this.items = []
    this.apart = this.answer = undefined
    return true
  }
}

/** Whether what core has collected may travel with others than those that it collected with it. */
export const mayJoin = <Req extends Request.Any>(caller: Caller<Req>): boolean => {
  const { bulk, item } = caller
  if (bulk !== undefined) return bulk.direct && caller.independent
  return item!.collected && item!.independent
}

/** What a request ends with whose batch ended so. */
export const resultOf = <Req extends Request.Any>(
  item: Item<Req>,
  exit: Exit.Exit<void, Request.Error<Req>>
): Result<Req> | undefined => Exit.isFailure(exit) ? Exit.failCause(exit.cause) : item.exit
