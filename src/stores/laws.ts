/**
 * The promises of `effect-funnel/stores` as programs that test a store, in any test framework.
 *
 * **When to use**
 *
 * Use it in the tests of a store of your own. The stores over Redis and PostgreSQL pass the same laws.
 *
 * **Details**
 *
 * A law has a title and a check, which fails with a {@link LawError} if the store breaks the law. A check uses names of its own,
 * so the store need not be emptied, and sleeps on the clock for less than a second. The function that you give makes a
 * new client at each use, as another process would have one, and returns once wake-ups arrive there.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { format } from "effect/Formatter"
import type * as Scope from "effect/Scope"
import { guarded } from "../internal/data/guarded.js"
import { StacklessError } from "../internal/data/stacklessError.js"
import type { Cell, GcraStore } from "../internal/store/gcraStore.js"
import type { PermitStore } from "../internal/store/permitStore.js"
import type { Joined, Party, ReducerStore, Signal } from "../internal/store/reducerStore.js"

/**
 * A store broke a law.
 *
 * @category errors
 * @since 0.1.0
 */
export class LawError extends /*#__PURE__*/ StacklessError("LawError")<{
  /** The name of the value that is wrong. */
  readonly what: string
  readonly expected: unknown
  readonly got: unknown
}> {
  override get message(): string {
    return `${this.what}: expected ${text(this.expected)}, got ${text(this.got)}`
  }
}

/** JSON, where a value has any: what a store under test answers may be anything. */
const text = (value: unknown): string | undefined => guarded(() => JSON.stringify(value), () => format(value))

/**
 * A promise of a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Law {
  readonly title: string
  /** Fails if the store breaks the law, or with a failure of the store. */
  readonly check: Effect.Effect<void, unknown, Scope.Scope>
}

const hold = (what: string, got: unknown, expected: unknown) =>
  text(got) === text(expected) ? Effect.void : Effect.fail(new LawError({ what, expected, got }))

const isTrue = (what: string, got: boolean, value: unknown = got) =>
  got ? Effect.void : Effect.fail(new LawError({ what, expected: true, got: value }))

const until = Effect.fnUntraced(function*(what: string, done: () => boolean) {
  yield* isTrue(
    what,
    yield* Effect.repeat(Effect.delay(Effect.sync(done), 10), { until: (isDone) => isDone, times: 500 })
  )
})

const law = (title: string, f: () => Generator<Effect.Effect<unknown, unknown, Scope.Scope>, void, never>): Law => ({
  title,
  check: Effect.gen(f)
})

const twice = <A, E, R>(f: () => Effect.Effect<A, E, R>) => Effect.repeat(Effect.suspend(f), { times: 1 })

const unique = (): string => globalThis.crypto.randomUUID()

/** A key of 18,000 characters, which cannot be made shorter by compressing it. */
const long = (): string => Array.from({ length: 500 }, unique).join("")

/**
 * The laws of a `ReducerStore`.
 *
 * **Example** (Listing the laws)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import type { ReducerStore } from "effect-funnel/stores"
 * import * as Laws from "effect-funnel/stores/laws"
 *
 * const connect = (_: Laws.ReducerStoreOptions): Effect.Effect<ReducerStore> => Effect.die("your store")
 *
 * // In a test: for (const { title, check } of …) it.live(title, () => Effect.scoped(check))
 * Laws.reducerStore(connect)[0]?.title // => "the first party leads, the second follows and receives the result"
 * ```
 *
 * @category laws
 * @since 0.1.0
 */
export const reducerStore = (
  connect: (options: ReducerStoreOptions) => Effect.Effect<ReducerStore, unknown, Scope.Scope>
): ReadonlyArray<Law> => {
  const open = Effect.fnUntraced(function*(leaseMillis = 10_000, retainMillis = 10_000) {
    const store = yield* connect({ leaseMillis, retainMillis })
    const signals: Array<Signal> = []
    const party: Party = store.open((signal) => void signals.push(signal))
    yield* Effect.addFinalizer(() => Effect.sync(party.close))
    return {
      signals,
      party,
      join: (key: string, after?: number) => store.join(key, party, after),
      renew: (key: string, fence: number) => store.renew(key, party, fence),
      complete: (key: string, fence: number, payload: string) => store.complete(key, party, fence, payload),
      release: (key: string) => store.release(key, party)
    }
  })
  const leads = (joined: Joined) => Effect.as(hold("the party", joined._tag, "Lead"), joined.fence)
  const follows = (joined: Joined) =>
    joined._tag === "Follow"
      ? Effect.succeed(joined)
      : Effect.fail(new LawError({ what: "the party", expected: "Follow", got: joined._tag }))
  const isDone = (joined: Joined, fence: number, payload: string) =>
    hold("the result", joined, { _tag: "Done", fence, payload })
  const grows = (fence: number, former: number) =>
    isTrue("the fence grows and is safe", fence > former && Number.isSafeInteger(fence), [former, fence])

  return [
    law("the first party leads, the second follows and receives the result", function*() {
      const [a, b, key] = [yield* open(), yield* open(), unique()]
      const fence = yield* leads(yield* a.join(key))
      const followed = yield* follows(yield* b.join(key))
      yield* hold("the fence of the leader", followed.fence, fence)
      yield* isTrue("the rest of the lease", followed.restMillis > 0 && followed.restMillis <= 10_000)
      yield* hold("completed", yield* a.complete(key, fence, "\"é\""), true)
      yield* until("the follower is woken", () => b.signals.some((_) => _._tag === "Done" && _.fence === fence))
      yield* isDone(yield* b.join(key, fence), fence, "\"é\"")
    }),
    law("a party without `after` never gets a kept result, and fences only grow", function*() {
      const [a, b, key] = [yield* open(), yield* open(), unique()]
      const first = yield* leads(yield* a.join(key))
      yield* a.complete(key, first, "1")
      const second = yield* leads(yield* a.join(key))
      yield* grows(second, first)
      yield* follows(yield* b.join(key))
      yield* a.complete(key, second, "2")
      const third = yield* leads(yield* b.join(key))
      yield* grows(third, second)
      yield* isDone(yield* a.join(key, second), second, "2")
      yield* follows(yield* a.join(key, third))
    }),
    law("every command may run twice", function*() {
      const [a, b, key] = [yield* open(), yield* open(), unique()]
      const fence = yield* leads(yield* a.join(key))
      yield* hold("the same fence", yield* leads(yield* a.join(key)), fence)
      yield* twice(() => Effect.flatMap(b.join(key), follows))
      yield* twice(() => Effect.flatMap(a.renew(key, fence), (renewed) => hold("renewed", renewed, true)))
      yield* twice(() => Effect.flatMap(a.complete(key, fence, "1"), (completed) => hold("completed", completed, true)))
      yield* twice(() => a.release(key))
      yield* isDone(yield* b.join(key, fence), fence, "1")
    }),
    law("when a lease ends another party leads with a larger fence, and the former is refused", function*() {
      const [a, b, key] = [yield* open(600), yield* open(600), unique()]
      const old = yield* leads(yield* a.join(key))
      yield* follows(yield* b.join(key))
      yield* Effect.sleep(620)
      const fence = yield* leads(yield* b.join(key, old))
      yield* grows(fence, old)
      yield* hold("renewed", yield* a.renew(key, old), false)
      yield* hold("completed", yield* a.complete(key, old, "stale"), false)
      yield* b.complete(key, fence, "fresh")
      yield* isDone(yield* a.join(key, old), fence, "fresh")
    }),
    law("a leader that joins again after it has run gets a larger fence, once", function*() {
      const [a, key] = [yield* open(), unique()]
      const first = yield* leads(yield* a.join(key))
      const second = yield* leads(yield* a.join(key, first))
      yield* grows(second, first)
      yield* hold("the same fence", yield* leads(yield* a.join(key, first)), second)
      yield* hold("renewed with the former fence", yield* a.renew(key, first), false)
      yield* hold("renewed", yield* a.renew(key, second), true)
    }),
    law("a renewed lease outlasts its length", function*() {
      const [a, b, key] = [yield* open(700), yield* open(700), unique()]
      const fence = yield* leads(yield* a.join(key))
      const renew = Effect.suspend(() =>
        Effect.flatMap(a.renew(key, fence), (renewed) => hold("renewed", renewed, true))
      )
      yield* Effect.repeat(Effect.delay(renew, 200), { times: 3 })
      yield* follows(yield* b.join(key))
    }),
    law("a leader that leaves wakes a follower, which leads at once", function*() {
      const [a, b, key] = [yield* open(), yield* open(), unique()]
      const old = yield* leads(yield* a.join(key))
      yield* follows(yield* b.join(key))
      const before = b.signals.length
      yield* a.release(key)
      yield* until("the follower is woken", () => b.signals.length > before)
      const fence = yield* leads(yield* b.join(key, old))
      yield* grows(fence, old)
      yield* a.release(key)
      yield* follows(yield* a.join(key))
      yield* hold("renewed", yield* b.renew(key, fence), true)
    }),
    law("a result is kept for as long as `retainMillis`, and no longer", function*() {
      const [a, b, key] = [yield* open(10_000, 700), yield* open(10_000, 700), unique()]
      const fence = yield* leads(yield* a.join(key))
      yield* follows(yield* b.join(key))
      yield* a.complete(key, fence, "1")
      yield* isDone(yield* b.join(key, fence), fence, "1")
      yield* Effect.sleep(720)
      yield* leads(yield* b.join(key, fence))
    }),
    law("a kept result, or a later one, is there for its time, also if nobody waits for a later run", function*() {
      const [a, b, key] = [yield* open(10_000, 700), yield* open(10_000, 700), unique()]
      const first = yield* leads(yield* a.join(key))
      yield* follows(yield* b.join(key))
      yield* a.complete(key, first, "1")
      const second = yield* leads(yield* a.join(key))
      yield* twice(Effect.fnUntraced(function*() {
        yield* hold("completed", yield* a.complete(key, second, "2"), true)
        yield* hold("the party that comes for its result", (yield* b.join(key, first))._tag, "Done")
      }))
      yield* leads(yield* a.join(key))
      yield* Effect.sleep(720)
      yield* follows(yield* b.join(key, first))
    }),
    law("of many parties that join at once one leads", function*() {
      const parties = yield* Effect.all(Array.from({ length: 8 }, () => open()))
      const key = unique()
      const all = yield* Effect.forEach(parties, (_) => _.join(key), { concurrency: "unbounded" })
      yield* hold("leaders", all.filter((_) => _._tag === "Lead").length, 1)
    }),
    law("keys and results are any text", function*() {
      const [a, b] = [yield* open(), yield* open()]
      for (const text of ["", "}", "a\nb", "{é}:\0", "🦉", "'\"\\$1", "x".repeat(1000)]) {
        const key = `${unique()}${text}`
        const payload = text.repeat(300)
        const fence = yield* leads(yield* a.join(key))
        yield* follows(yield* b.join(key))
        yield* leads(yield* b.join(`${key} `))
        yield* a.complete(key, fence, payload)
        yield* isDone(yield* b.join(key, fence), fence, payload)
      }
    }),
    law("a key may be long", function*() {
      const [a, b, key] = [yield* open(), yield* open(), long()]
      const fence = yield* leads(yield* a.join(key))
      yield* follows(yield* b.join(key))
      yield* leads(yield* b.join(`${key} `))
      yield* a.complete(key, fence, "")
      yield* isDone(yield* b.join(key, fence), fence, "")
    })
  ]
}

/**
 * The options of a client of a `ReducerStore` that the laws ask for.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReducerStoreOptions {
  readonly leaseMillis: number
  readonly retainMillis: number
}

/**
 * The laws of a `GcraStore`.
 *
 * **Example** (Checking a law)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import type { GcraStore } from "effect-funnel/stores"
 * import * as Laws from "effect-funnel/stores/laws"
 *
 * const grantsAll: GcraStore = {
 *   take: (_, tokens) =>
 *     Effect.succeed({
 *       waits: tokens.map(() => 0),
 *       retryMillis: 0,
 *       remaining: 1,
 *       resetMillis: 0,
 *       tightest: 0,
 *       before: "",
 *       after: ""
 *     }),
 *   giveBack: () => Effect.void,
 *   penalize: () => Effect.void,
 *   reset: () => Effect.void
 * }
 *
 * const [first] = Laws.gcraStore(() => Effect.succeed(grantsAll))
 *
 * await Effect.runPromise(Effect.scoped(Effect.match(first!.check, {
 *   onFailure: String,
 *   onSuccess: () => "holds"
 * }))) // => "LawError: the waits: expected [0,0,2000,5000,6000,7000,9000], got [0,0,0,0,0,0,0]"
 * ```
 *
 * @category laws
 * @since 0.1.0
 */
export const gcraStore = (
  connect: (cells: ReadonlyArray<Cell>) => Effect.Effect<GcraStore, unknown, Scope.Scope>
): ReadonlyArray<Law> => {
  const one = (intervalMillis: number, burst: number) => connect([{ intervalMicros: intervalMillis * 1000, burst }])
  const ones = (n: number) => Array.from({ length: n }, () => 1)
  const near = (what: string, got: number, expected: number, within: number) =>
    isTrue(`${what} is ${expected}, or up to ${within} less`, got <= expected + 0.01 && got >= expected - within, got)

  return [
    law("requests are granted whole and in order", function*() {
      const store = yield* one(1000, 3)
      const { retryMillis, waits } = yield* store.take(unique(), [1, 1, 3, 3, 1, 1, 2], 9000)
      yield* hold("the waits", waits, [0, 0, 2000, 5000, 6000, 7000, 9000])
      yield* hold("the retry", retryMillis, 0)
    }),
    law("the first request that would wait too long is refused with those behind it, and takes nothing", function*() {
      const [store, key] = [yield* one(1000, 3), unique()]
      const some = yield* store.take(key, [1, 1, 3, 3, 1], 4000)
      yield* hold("the waits", some.waits, [0, 0, 2000])
      yield* hold("the retry", some.retryMillis, 1000)
      const refused = yield* store.take(key, [3], 0)
      yield* hold("the waits", refused.waits, [])
      yield* hold("the state", refused.before, refused.after)
      yield* near("the retry", refused.retryMillis, 5000, 1000)
      yield* near("the wait", (yield* store.take(key, [1], 10_000)).waits[0]!, 3000, 1000)
    }),
    law("what was refused is granted after its time, and not before", function*() {
      const [store, key] = [yield* one(700, 1), unique()]
      yield* store.take(key, [1], 0)
      const { retryMillis } = yield* store.take(key, [1], 0)
      yield* isTrue("the retry", retryMillis > 0 && retryMillis <= 700, retryMillis)
      yield* Effect.sleep(Math.ceil(retryMillis) + 1)
      yield* hold("the waits", (yield* store.take(key, [1], 0)).waits, [0])
    }),
    law("a `maxWaitMillis` below 0 takes nothing and tells what is left", function*() {
      const [store, key] = [yield* one(10_000, 2), unique()]
      const fresh = yield* store.take(key, [1], -1)
      yield* hold("at rest", [fresh.waits, fresh.retryMillis, fresh.remaining], [[], 1, 2])
      yield* store.take(key, [1, 1], 0)
      const spent = yield* store.take(key, [1], -1)
      yield* hold("spent", [spent.waits, spent.remaining, spent.tightest], [[], 0, 0])
      yield* near("the retry", spent.retryMillis, 10_001, 2000)
      yield* near("the rest", spent.resetMillis, 20_000, 2000)
    }),
    law("a request conforms to all quotas", function*() {
      const store = yield* connect([{ intervalMicros: 100_000, burst: 5 }, { intervalMicros: 1000, burst: 1 }])
      const { waits } = yield* store.take(unique(), ones(7), 10_000)
      yield* hold("the waits", waits, [0, 1, 2, 3, 4, 100, 200])
    }),
    law("fractions of a microsecond are not lost", function*() {
      const { waits } = yield* (yield* one(1000 / 3, 1)).take(unique(), ones(1000), 1e9)
      yield* near("the last wait", waits[999]!, 333_000, 0.01)
    }),
    law("clients share a key, and together take no more than there is", function*() {
      const key = unique()
      const stores = yield* Effect.all(Array.from({ length: 4 }, () => one(60_000, 7)))
      const all = yield* Effect.forEach(
        stores.flatMap((store) => [store, store, store, store]),
        (store) => store.take(key, [1], 0),
        { concurrency: "unbounded" }
      )
      yield* hold("granted", all.filter((_) => _.waits.length === 1).length, 7)
      yield* hold("another key", (yield* stores[0]!.take(`${key} `, [7], 0)).waits, [0])
    }),
    law("the last grant is given back once, and not at all if others have taken since", function*() {
      const [store, key] = [yield* one(10_000, 3), unique()]
      const first = yield* store.take(key, ones(5), 1e6)
      const second = yield* store.take(key, ones(2), 1e6)
      yield* hold("the state", second.before, first.after)
      yield* store.giveBack(key, 5, first.after)
      yield* hold("the state", (yield* store.take(key, [1], 0)).before, second.after)
      yield* twice(() => store.giveBack(key, 2, second.after))
      yield* near("the wait", (yield* store.take(key, [1], 1e6)).waits[0]!, 30_000, 3000)
    }),
    law("more is never given back than was taken", function*() {
      const [store, key] = [yield* one(10_000, 3), unique()]
      const { after } = yield* store.take(key, [2], 0)
      yield* store.giveBack(key, 100, after)
      const { waits } = yield* store.take(key, ones(4), 1e6)
      yield* hold("at once", waits.slice(0, 3), [0, 0, 0])
      yield* near("the wait", waits[3]!, 10_000, 1000)
    }),
    law("the longest penalty holds all callers back, and a reset ends it", function*() {
      const [store, other, key] = [yield* one(1, 10), yield* one(1, 10), unique()]
      yield* store.penalize(key, 50_000)
      yield* other.penalize(key, 10_000)
      const { retryMillis, waits } = yield* other.take(key, [1], 0)
      yield* hold("the waits", waits, [])
      yield* near("the retry", retryMillis, 50_000, 5000)
      yield* store.reset(key)
      yield* hold("the waits", (yield* other.take(key, [10], 0)).waits, [0])
    }),
    law("keys are any text", function*() {
      const store = yield* one(60_000, 1)
      for (const text of ["", "}", "a\nb", "é\0", "🦉", "'\"\\$1"]) {
        const key = `${unique()}${text}`
        yield* hold("the waits", (yield* store.take(key, [1], 0)).waits, [0])
        yield* hold("the waits", (yield* store.take(key, [1], 0)).waits, [])
      }
    }),
    law("a key may be long", function*() {
      const [store, key] = [yield* one(60_000, 1), long()]
      yield* hold("the waits", (yield* store.take(key, [1], 0)).waits, [0])
      yield* hold("the waits", (yield* store.take(key, [1], 0)).waits, [])
      yield* hold("another key", (yield* store.take(`${key} `, [1], 0)).waits, [0])
    })
  ]
}

/**
 * The options of a client of a `PermitStore` that the laws ask for: the name of the scheduler, the length of a lease, and a
 * callback for wake-ups.
 *
 * @category models
 * @since 0.1.0
 */
export interface PermitStoreOptions {
  readonly name: string
  readonly leaseMillis: number
  readonly onWake: () => void
}

/**
 * The laws of a `PermitStore`.
 *
 * **Example** (Listing the laws)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import type { PermitStore } from "effect-funnel/stores"
 * import * as Laws from "effect-funnel/stores/laws"
 *
 * const connect = (_: Laws.PermitStoreOptions): Effect.Effect<PermitStore> => Effect.die("your store")
 *
 * Laws.permitStore(connect)[0]?.title // => "no more than the limit is held, and what is given back goes to the first who waits"
 * ```
 *
 * @category laws
 * @since 0.1.0
 */
export const permitStore = (
  connect: (options: PermitStoreOptions) => Effect.Effect<PermitStore, unknown, Scope.Scope>
): ReadonlyArray<Law> => {
  const open = Effect.fnUntraced(function*(name: string, leaseMillis = 10_000) {
    let wakes = 0
    const store = yield* connect({ name, leaseMillis, onWake: () => wakes++ })
    yield* Effect.addFinalizer(() => Effect.sync(store.close))
    const held = (weight: number, ids: ReadonlyArray<string>) =>
      ids.map((id) => ({ id: `${store.node}.${id}`, weight }))
    return {
      acquire: (limit: number, ...ids: ReadonlyArray<string>) => store.acquire(held(1, ids), limit),
      acquireHeavy: (limit: number, weight: number, id: string) => store.acquire(held(weight, [id]), limit),
      renew: (limit: number, ...ids: ReadonlyArray<string>) => store.renew(held(1, ids), limit),
      renewHeavy: (limit: number, weight: number, id: string) => store.renew(held(weight, [id]), limit),
      release: (...ids: ReadonlyArray<string>) => store.release(held(0, ids)),
      keep: (weight: number, id: string) => store.release(held(weight, [id])),
      penalize: store.penalize,
      idOf: (id: string) => `${store.node}.${id}`,
      /** Waits for a wake-up that comes from now on. */
      woken: <A, E>(cause: Effect.Effect<A, E>) =>
        Effect.suspend(() => {
          const before = wakes
          return Effect.andThen(cause, until("a waiting process is woken", () => wakes > before))
        })
    }
  })
  const three = Effect.fnUntraced(function*(leaseMillis?: number) {
    const name = unique()
    return [yield* open(name, leaseMillis), yield* open(name, leaseMillis), yield* open(name, leaseMillis)] as const
  })
  const granted = (acquired: { readonly granted: number }, expected: number) =>
    hold("granted", acquired.granted, expected)

  return [
    law("no more than the limit is held, and what is given back goes to the first who waits", function*() {
      const [a, b] = yield* three()
      yield* granted(yield* a.acquire(2, "1", "2", "3"), 2)
      yield* granted(yield* b.acquire(2, "1", "2"), 0)
      yield* a.woken(a.release("1"))
      yield* granted(yield* b.acquire(2, "1", "2"), 0)
      yield* granted(yield* a.acquire(2, "3"), 1)
      yield* b.woken(a.release("2", "3"))
      yield* granted(yield* b.acquire(2, "1", "2"), 2)
    }),
    law("every command may run twice", function*() {
      const [a, b] = yield* three()
      yield* twice(() => Effect.flatMap(a.acquire(3, "1", "2"), (acquired) => granted(acquired, 2)))
      yield* granted(yield* b.acquire(3, "1"), 1)
      yield* twice(() => a.release("1"))
      yield* granted(yield* b.acquire(3, "2", "3"), 1)
      yield* twice(() => Effect.flatMap(a.renew(3, "2"), (lost) => hold("lost", lost, [])))
    }),
    law("of many that ask at once no more than the limit get a permit", function*() {
      const name = unique()
      const all = yield* Effect.all(Array.from({ length: 6 }, () => open(name)))
      const answers = yield* Effect.forEach(all, (_) => _.acquire(7, "1", "2", "3"), { concurrency: "unbounded" })
      yield* hold("granted", answers.reduce((sum, _) => sum + _.granted, 0), 7)
    }),
    law("a heavy permit is taken whole, and nobody overtakes it", function*() {
      const [a, b] = yield* three()
      yield* granted(yield* a.acquire(3, "1", "2"), 2)
      yield* granted(yield* b.acquireHeavy(3, 3, "1"), 0)
      yield* granted(yield* a.acquire(3, "3"), 0)
      yield* b.woken(a.release("1", "2"))
      yield* granted(yield* b.acquireHeavy(3, 3, "1"), 1)
      yield* a.woken(b.release("1"))
      yield* granted(yield* a.acquire(3, "3"), 1)
    }),
    law("a process is granted what those ahead of it leave, also while they do not ask", function*() {
      const [a, b, c] = yield* three()
      yield* granted(yield* a.acquire(4, "1", "2", "3", "4"), 4)
      yield* granted(yield* b.acquire(4, "1"), 0)
      yield* granted(yield* c.acquire(4, "1", "2", "3"), 0)
      yield* a.release("1", "2", "3")
      yield* granted(yield* c.acquire(4, "1", "2", "3"), 2)
      yield* granted(yield* b.acquire(4, "1"), 1)
    }),
    law("a process that leaves the queue lets the next one go on", function*() {
      const [a, b, c] = yield* three()
      yield* a.acquire(2, "1")
      yield* b.acquireHeavy(2, 2, "1")
      yield* granted(yield* c.acquire(2, "1"), 0)
      yield* c.woken(b.acquire(2))
      yield* granted(yield* c.acquire(2, "1"), 1)
    }),
    law("a lease that ends frees its permit, and its holder learns of it", function*() {
      const [a, b] = yield* three(600)
      yield* a.acquire(1, "1")
      const { granted: none, pollMillis } = yield* b.acquire(1, "1")
      yield* hold("granted", none, 0)
      yield* isTrue("the poll", pollMillis > 0 && pollMillis <= 600, pollMillis)
      yield* Effect.sleep(Math.ceil(pollMillis) + 5)
      yield* granted(yield* b.acquire(1, "1"), 1)
      yield* hold("lost", yield* a.renew(1, "1"), [a.idOf("1")])
      yield* hold("lost", yield* b.renew(1, "1"), [])
    }),
    law("a process that died while it waited holds up nobody", function*() {
      const [a, b, c] = yield* three(300)
      yield* a.acquire(1, "1")
      yield* b.acquire(1, "1")
      yield* a.release("1")
      // However long the machine takes: the place of `b` ends with its lease, while that of `c` is kept by asking.
      const asked = Effect.suspend(() => c.acquire(1, "1"))
      const got = yield* Effect.repeat(Effect.delay(asked, 20), { until: (_) => _.granted === 1, times: 250 })
      yield* granted(got, 1)
    }),
    law("each permit has the length of its own lease", function*() {
      const name = unique()
      const [a, b] = [yield* open(name, 10_000), yield* open(name, 50)]
      yield* granted(yield* a.acquire(2, "1", "2"), 2)
      const asked = Effect.suspend(() => Effect.flatMap(b.acquire(2, "1"), (acquired) => granted(acquired, 0)))
      yield* Effect.repeat(Effect.andThen(asked, Effect.sleep(60)), { times: 2 })
      yield* hold("lost", yield* a.renew(2, "1", "2"), [])
    }),
    law("a permit that was forgotten is held again while there is room", function*() {
      const [a, b] = yield* three()
      yield* granted(yield* b.acquire(2, "1"), 1)
      yield* hold("lost", yield* a.renew(2, "1", "2"), [a.idOf("2")])
      yield* granted(yield* b.acquire(2, "1", "2"), 1)
    }),
    law("a part of a permit is given back once, and a renewal gives it back too", function*() {
      const [a, b] = yield* three()
      yield* granted(yield* a.acquireHeavy(100, 100, "1"), 1)
      yield* twice(() => a.keep(99, "1"))
      yield* granted(yield* b.acquire(100, "1", "2"), 1)
      yield* a.renewHeavy(100, 98, "1")
      yield* a.renewHeavy(100, 99, "1")
      yield* granted(yield* b.acquire(100, "2", "3"), 1)
    }),
    law("the longest penalty grants nothing, empties the queue, and wakes those that wait", function*() {
      const [a, b] = yield* three()
      yield* hold("penalty", (yield* a.acquire(1, "1")).penaltyMillis, 0)
      yield* granted(yield* b.acquire(1, "1"), 0)
      yield* b.woken(a.penalize(700))
      yield* b.penalize(100)
      const { granted: none, penaltyMillis } = yield* b.acquire(1, "1")
      yield* hold("granted", none, 0)
      yield* isTrue("the penalty", penaltyMillis > 100 && penaltyMillis <= 700, penaltyMillis)
      yield* hold("lost", yield* a.renew(1, "1"), [])
      yield* a.release("1")
      yield* Effect.sleep(710)
      yield* granted(yield* b.acquire(1, "1"), 1)
      yield* hold("penalty", (yield* b.acquire(1)).penaltyMillis, 0)
    })
  ]
}
