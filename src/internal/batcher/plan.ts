/**
 * How the answer of one backend call is dealt out to the requests that asked for it.
 */
import type { NonEmptyArray, NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { BatcherError, ResultLengthMismatch } from "./error.js"
import { ValueMap } from "./key.js"
import type { Item, Result } from "./parts.js"
import { andThen, forEachInTurns } from "./turns.js"

export type Plan<Req extends Request.Any, R> = (
  items: NonEmptyReadonlyArray<Item<Req>>
) => Effect.Effect<void, Request.Error<Req>, R>

export const byId = <Req extends Request.Any, Id, Row extends Request.Success<Req>, R>(options: {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: Row) => Id
  readonly missing: (request: Req) => Result<Req>
}): Plan<Req, R> =>
(items) =>
  askDistinct(items, options, ({ ids, placeOf, places }, rows) => {
    const exits = new Array<Result<Req> | undefined>(ids.length)
    const sort = (row: Row): void => {
      const place = placeOf.get(options.resultId(row))
      if (place !== undefined) exits[place] ??= Exit.succeed(row)
    }
    return andThen(forEachInTurns(rows, sort), () =>
      forEachInTurns(items, (item, i) => {
        item.exit = exits[places[i]!] ?? options.missing(item.request)
      }))
  })

export const byGroup = <Req extends Request.Any, Id, Row, R>(options: {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: Row) => Id
}): Plan<Req, R> =>
(items) =>
  askDistinct(items, options, ({ ids, placeOf, places }, rows) => {
    const groups = ids.map((): Array<Row> => [])
    const sort = (row: Row): void => {
      const place = placeOf.get(options.resultId(row))
      if (place !== undefined) groups[place]!.push(row)
    }
    return andThen(forEachInTurns(rows, sort), () =>
      forEachInTurns(items, (item, i) => {
        // Sound: the request succeeds with a list of rows, of whatever length.
        item.exit = Exit.succeed(groups[places[i]!] as Request.Success<Req>)
      }))
  })

export const inOrder = <Req extends Request.Any, R>(options: {
  readonly execute: (
    requests: NonEmptyArray<Req>
  ) => Effect.Effect<ReadonlyArray<Request.Success<Req> | Result<Req>>, Request.Error<Req>, R>
}): Plan<Req, R> =>
(items) => {
  // Sound: as many as there are items.
  const requests = items.map((item) => item.request) as NonEmptyArray<Req>
  return Effect.flatMap(options.execute(requests), (results) => {
    if (results.length !== items.length) {
      const { batch, request } = items[0]
      const resolver = batch.group.owner.nameFor(request)
      const reason = new ResultLengthMismatch({ resolver, expected: items.length, actual: results.length })
      return Effect.die(new BatcherError({ reason }))
    }
    return forEachInTurns(items, (item, i) => {
      item.exit = toResult<Req>(results[i]!)
    })
  })
}

/** A value that is an exit is taken for one. */
export const toResult = <Req extends Request.Any>(value: Request.Success<Req> | Result<Req>): Result<Req> =>
  // Sound: the only exits there may be are results of the request.
  Exit.isExit(value) ? value as Result<Req> : Exit.succeed(value as Request.Success<Req>)

interface Distinct<Id> {
  readonly ids: ReadonlyArray<Id>
  /** Where an id stands among them. */
  readonly placeOf: ValueMap<number>
  /** Where the id of each request stands among them. */
  readonly places: ReadonlyArray<number>
}

/** Unequal requests may have one id: each id is asked for once. `deal` is given the rows that come for them. */
const askDistinct = <Req extends Request.Any, Id, Row, R>(
  items: NonEmptyReadonlyArray<Item<Req>>,
  options: {
    readonly id: (request: Req) => Id
    readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  },
  deal: (distinct: Distinct<Id>, rows: ReadonlyArray<Row>) => Effect.Effect<void>
): Effect.Effect<void, Request.Error<Req>, R> => {
  const ids: Array<Id> = []
  const places: Array<number> = []
  const placeOf = new ValueMap<number>()
  const ask = ({ request }: Item<Req>): void => {
    const id = options.id(request)
    const known = placeOf.get(id)
    if (known === undefined) placeOf.set(id, ids.length)
    places.push(known ?? ids.push(id) - 1)
  }
  return andThen(forEachInTurns(items, ask), () =>
    // Sound: the first id is distinct.
    Effect.flatMap(options.execute(ids as NonEmptyArray<Id>), (rows) =>
      deal({ ids, placeOf, places }, isList(rows) ? rows : Array.from(rows))))
}

const isList = <A>(rows: Iterable<A>): rows is ReadonlyArray<A> => Array.isArray(rows)
