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
  const [wanted, ids] = distinct(items, options.id)
  return Effect.map(options.execute(ids), (rows) => {
    const exits = new ValueMap<Result<Req>>()
    for (const row of rows) {
      const id = options.resultId(row)
      if (exits.get(id) === undefined) exits.set(id, Exit.succeed(row))
    }
    items.forEach((item, i) => {
      item.exit = exits.get(wanted[i]) ?? options.missing(item.request)
    })
  })
}

export const byGroup = <Req extends Request.Any, Id, Row, R>(options: {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: Row) => Id
}): Plan<Req, R> =>
(items) => {
  const [wanted, ids] = distinct(items, options.id)
  return Effect.map(options.execute(ids), (rows) => {
    const groups = new ValueMap<Array<Row>>()
    for (const id of ids) groups.set(id, [])
    for (const row of rows) groups.get(options.resultId(row))?.push(row)
    items.forEach((item, i) => {
      // Sound: the request succeeds with a list of rows, of whatever length.
      item.exit = Exit.succeed((groups.get(wanted[i]) ?? []) as Request.Success<Req>)
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
      const reason = new ResultLengthMismatch({ expected: items.length, actual: results.length })
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

/** Unequal requests may have one id: each id is asked for once. */
const distinct = <Req extends Request.Any, Id>(
  items: NonEmptyReadonlyArray<Item<Req>>,
  id: (request: Req) => Id
): [wanted: Array<Id>, ids: NonEmptyArray<Id>] => {
  const wanted = items.map((item) => id(item.request))
  const seen = new ValueMap<true>()
  const ids = wanted.filter((id) => {
    if (seen.get(id)) return false
    seen.set(id, true)
    return true
  })
  // Sound: the first id is distinct.
  return [wanted, ids as NonEmptyArray<Id>]
}
