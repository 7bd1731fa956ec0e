/**
 * How the answer of one backend call is dealt out to the requests that asked for it.
 */
import type { NonEmptyArray, NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { BatcherError, ResultLengthMismatch } from "./batchError.js"
import { ValueMap } from "./batchKey.js"
import type { Item, Result } from "./batchState.js"

export type Plan<Req extends Request.Any, R> = (
  items: NonEmptyReadonlyArray<Item<Req>>
) => Effect.Effect<void, Request.Error<Req>, R>

export const byId = <Req extends Request.Any, Id, Row extends Request.Success<Req>, R>(options: {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: Row) => Id
  readonly missing: (request: Req) => Result<Req>
}): Plan<Req, R> =>
(items) => {
  const { ids, placeOf, places } = distinct(items, options.id)
  return Effect.map(options.execute(ids), (rows) => {
    const exits = new Array<Result<Req> | undefined>(ids.length)
    for (const row of rows) {
      const place = placeOf.get(options.resultId(row))
      if (place !== undefined) exits[place] ??= Exit.succeed(row)
    }
    items.forEach((item, i) => {
      item.exit = exits[places[i]!] ?? options.missing(item.request)
    })
  })
}

export const byGroup = <Req extends Request.Any, Id, Row, R>(options: {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: Row) => Id
}): Plan<Req, R> =>
(items) => {
  const { ids, placeOf, places } = distinct(items, options.id)
  return Effect.map(options.execute(ids), (rows) => {
    const groups = ids.map((): Array<Row> => [])
    for (const row of rows) {
      const place = placeOf.get(options.resultId(row))
      if (place !== undefined) groups[place]!.push(row)
    }
    items.forEach((item, i) => {
      // Sound: the request succeeds with a list of rows, of whatever length.
      item.exit = Exit.succeed(groups[places[i]!] as Request.Success<Req>)
    })
  })
}

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
      const { group, request } = items[0]
      const resolver = group.owner.nameFor(request)
      const reason = new ResultLengthMismatch({ resolver, expected: items.length, actual: results.length })
      return Effect.die(new BatcherError({ reason }))
    }
    items.forEach((item, i) => {
      item.exit = toResult<Req>(results[i]!)
    })
    return Effect.void
  })
}

/** A value that is an exit is taken for one. */
export const toResult = <Req extends Request.Any>(value: Request.Success<Req> | Result<Req>): Result<Req> =>
  // Sound: the only exits there may be are results of the request.
  Exit.isExit(value) ? value as Result<Req> : Exit.succeed(value as Request.Success<Req>)

interface Distinct<Id> {
  readonly ids: NonEmptyArray<Id>
  /** Where an id stands among them. */
  readonly placeOf: ValueMap<number>
  /** Where the id of each request stands among them. */
  readonly places: ReadonlyArray<number>
}

/** Unequal requests may have one id: each id is asked for once. */
const distinct = <Req extends Request.Any, Id>(
  items: NonEmptyReadonlyArray<Item<Req>>,
  idOf: (request: Req) => Id
): Distinct<Id> => {
  const ids: Array<Id> = []
  const placeOf = new ValueMap<number>()
  const places = items.map((item) => {
    const id = idOf(item.request)
    const known = placeOf.get(id)
    if (known !== undefined) return known
    placeOf.set(id, ids.length)
    return ids.push(id) - 1
  })
  // Sound: the first id is distinct.
  return { ids: ids as NonEmptyArray<Id>, placeOf, places }
}
