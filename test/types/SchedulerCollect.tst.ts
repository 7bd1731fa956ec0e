import type { Array as Arr, Cause, Result } from "effect"
import { Context, Effect, Stream } from "effect"
import * as Scheduler from "effect-funnel/Scheduler"
import { describe, expect, it } from "tstyche"

declare class NotFound {
  readonly _tag: "NotFound"
}
declare class Down {
  readonly _tag: "Down"
}
class Api extends Context.Service<Api, { readonly get: (id: number) => Effect.Effect<string, NotFound> }>()("Api") {}
class Source extends Context.Service<Source, Stream.Stream<number, Down>>()("Source") {}
class Bar extends Context.Service<Bar, { readonly draw: Effect.Effect<void, Down> }>()("Bar") {}

const get = (id: number) => Api.use((api) => api.get(id))
const source = Stream.unwrap(Effect.service(Source))

class GitHub extends Scheduler.Service<GitHub>()("GitHub", { concurrency: 1 }) {}
class Hosts extends Scheduler.Keyed<Hosts>()("Hosts", { lookup: (_host: string) => ({ concurrency: 1 }) }) {}

type Error = Scheduler.SchedulerError
type Self = Scheduler.Scheduler

describe("forEach", () => {
  it("has the errors and the requirements of its function, the scheduler's error and the scheduler", () => {
    expect(Scheduler.forEach([1, 2], get)).type.toBe<
      Effect.Effect<Array<string>, NotFound | Error, Api | Self>
    >()
    expect(GitHub.forEach(new Set([1]), get)).type.toBe<Effect.Effect<Array<string>, NotFound | Error, Api | GitHub>>()
  })

  it("keeps a non-empty array non-empty", () => {
    const items = [1, 2] as const satisfies Arr.NonEmptyReadonlyArray<number>
    expect(Scheduler.forEach(items, get)).type.toBe<
      Effect.Effect<Arr.NonEmptyArray<string>, NotFound | Error, Api | Self>
    >()
    const some: ReadonlyArray<number> = items
    expect(Scheduler.forEach(some, get)).type.toBe<Effect.Effect<Array<string>, NotFound | Error, Api | Self>>()
  })

  it("gives nothing when it discards", () => {
    const some: ReadonlyArray<number> = []
    expect(Scheduler.forEach(some, get, { discard: true })).type.toBe<
      Effect.Effect<void, NotFound | Error, Api | Self>
    >()
    expect(Scheduler.forEach(some, get, { discard: false })).type.toBe<
      Effect.Effect<Array<string>, NotFound | Error, Api | Self>
    >()
  })

  it("takes in a stream's errors and requirements", () => {
    expect(Scheduler.forEach(source, get)).type.toBe<
      Effect.Effect<Array<string>, NotFound | Down | Error, Api | Source | Self>
    >()
  })

  it("infers the item and the index", () => {
    Scheduler.forEach(new Map([["a", 1]]), (entry, index) => {
      expect(entry).type.toBe<[string, number]>()
      expect(index).type.toBe<number>()
      return Effect.void
    }, {
      weight: (entry, index) => {
        expect(entry).type.toBe<[string, number]>()
        expect(index).type.toBe<number>()
        return 1
      }
    })
    Scheduler.forEach(source, (item) => {
      expect(item).type.toBe<number>()
      return Effect.void
    })
  })

  it("infers through a generic wrapper", () => {
    const each = <A, B, E, R>(items: Iterable<A>, f: (a: A) => Effect.Effect<B, E, R>) => Scheduler.forEach(items, f)
    expect(each([1], get)).type.toBe<Effect.Effect<Array<string>, NotFound | Error, Api | Self>>()
    const drain = <A, E, R>(items: Stream.Stream<A, E, R>) => Scheduler.forEach(items, (a: A) => Effect.succeed(a))
    expect(drain(source)).type.toBe<Effect.Effect<Array<number>, Down | Error, Source | Self>>()
  })

  it("a callback for progress may give anything; what an effect needs is needed, what it fails with is not seen", () => {
    const some: ReadonlyArray<number> = []
    expect(Scheduler.forEach(some, get, { onProgress: (progress) => [progress.done].push(1) })).type.toBe<
      Effect.Effect<Array<string>, NotFound | Error, Api | Self>
    >()
    expect(Scheduler.forEach(some, get, { onProgress: () => Bar.use((bar) => bar.draw) })).type.toBe<
      Effect.Effect<Array<string>, NotFound | Error, Api | Bar | Self>
    >()
    expect(Scheduler.forEach(some, get, { onProgress: () => JSON.parse("") })).type.toBe<
      Effect.Effect<Array<string>, NotFound | Error, Api | Self>
    >()
  })

  it("refuses what is no collection, no effect or no option", () => {
    // @ts-expect-error! a number is no collection
    Scheduler.forEach(1, get)
    // @ts-expect-error! a number is no effect
    Scheduler.forEach([1], (i: number) => i)
    // @ts-expect-error! an item of another type
    Scheduler.forEach(["a"], get)
    // @ts-expect-error! the limit is the scheduler's
    Scheduler.forEach([1], get, { concurrency: 2 })
    // @ts-expect-error! a weight is a number
    Scheduler.forEach([1], get, { weight: "2" })
  })
})

describe("all", () => {
  it("gives the shape of its argument", () => {
    expect(Scheduler.all([get(1), Effect.succeed(2)])).type.toBe<
      Effect.Effect<[string, number], NotFound | Error, Api | Self>
    >()
    expect(Scheduler.all({ a: get(1), b: Effect.succeed(2) })).type.toBe<
      Effect.Effect<{ a: string; b: number }, NotFound | Error, Api | Self>
    >()
    const set: Set<Effect.Effect<string, NotFound, Api>> = new Set([get(1)])
    expect(Scheduler.all(set)).type.toBe<Effect.Effect<Array<string>, NotFound | Error, Api | Self>>()
    expect(GitHub.all([get(1)], { discard: true })).type.toBe<Effect.Effect<void, NotFound | Error, Api | GitHub>>()
  })

  it("collects results in the mode for it, and only the scheduler can fail", () => {
    expect(Scheduler.all({ a: get(1) }, { mode: "result" })).type.toBe<
      Effect.Effect<{ a: Result.Result<string, NotFound> }, Error, Api | Self>
    >()
  })

  it("needs what the progress callback needs", () => {
    expect(Scheduler.all([get(1)], { onProgress: () => Bar.use((bar) => bar.draw) })).type.toBe<
      Effect.Effect<[string], NotFound | Error, Api | Bar | Self>
    >()
  })
})

describe("stream and mapEffect", () => {
  it("have the errors and the requirements of both", () => {
    expect(Scheduler.stream([1, 2], get)).type.toBe<Stream.Stream<string, NotFound | Error, Api | Self>>()
    expect(Scheduler.stream(source, get)).type.toBe<
      Stream.Stream<string, NotFound | Down | Error, Api | Source | Self>
    >()
    expect(source.pipe(Scheduler.mapEffect(get))).type.toBe<
      Stream.Stream<string, NotFound | Down | Error, Api | Source | Self>
    >()
    expect(source.pipe(GitHub.mapEffect((id, index) => get(id + index), { order: "input" }))).type.toBe<
      Stream.Stream<string, NotFound | Down | Error, Api | Source | GitHub>
    >()
  })

  it("refuse a function of another item and an order that is none", () => {
    // @ts-expect-error! an element of another type
    Stream.make("a").pipe(Scheduler.mapEffect(get))
    // @ts-expect-error! no such order
    Scheduler.stream([1], get, { order: "random" })
  })
})

describe("firstSuccess", () => {
  it("fails with its own error, which holds the effects'", () => {
    const first = Scheduler.firstSuccess([get(1), Effect.succeed(2)])
    expect(first).type.toBe<
      Effect.Effect<string | number, Scheduler.FirstSuccessError<NotFound | Error>, Api | Self>
    >()
    const caught = first.pipe(Effect.catchReason("FirstSuccessError", "AllFailed", (reason) => {
      expect(reason.errors).type.toBe<ReadonlyArray<NotFound | Error>>()
      expect(reason.causes).type.toBe<ReadonlyArray<Cause.Cause<NotFound | Error>>>()
      return Effect.succeed("none")
    }))
    expect(caught).type.toBeAssignableTo<Effect.Effect<string | number, unknown, Api | Self>>()
  })
})

describe("Keyed", () => {
  it("takes the key first and requires the tag", () => {
    expect(Hosts.schedule("a", get(1))).type.toBe<Effect.Effect<string, NotFound | Error, Api | Hosts>>()
    expect(get(1).pipe(Hosts.schedule("a"))).type.toBe<Effect.Effect<string, NotFound | Error, Api | Hosts>>()
    expect(get(1).pipe(Hosts.schedule("a", { weight: 2 }))).type.toBe<
      Effect.Effect<string, NotFound | Error, Api | Hosts>
    >()
    expect(Hosts.get("a")).type.toBe<Effect.Effect<Scheduler.Scheduler, never, Hosts>>()
    // @ts-expect-error! a key of another type
    Hosts.schedule(1, get(1))
    // @ts-expect-error! a number is no effect
    Hosts.schedule("a", 1)
  })
})
