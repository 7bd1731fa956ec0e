/**
 * Calls a backend for the items of a batch, and gives each item its exit.
 */
import type { NonEmptyArray, NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { BatcherError, ResultLengthMismatch } from "./error.js"
import { ValueMap } from "./key.js"
import type { Result } from "./options.js"
import type { Item } from "./parts.js"
import { andThen, forEachInTurns } from "./turns.js"

export type Plan<Req extends Request.Any, R> = (
  items: NonEmptyReadonlyArray<Item<Req>>
) => Effect.Effect<void, Request.Error<Req>, R>

interface RowOptions<Req extends Request.Any, Id, Row, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: Row) => Id
}

/** The first row of an id is the result of its requests. */
export const byId = <Req extends Request.Any, Id, Row extends Request.Success<Req>, R>(
  options: RowOptions<Req, Id, Row, R> & { readonly missing: (request: Req) => Result<Req> }
): Plan<Req, R> =>
  byRows<Req, Id, Row, Result<Req>, R>(
    options,
    (first, row) => first ?? Exit.succeed(row),
    (first, request) => first ?? options.missing(request)
  )

/** All rows of an id are the result of its requests. */
export const byGroup = <Req extends Request.Any, Id, Row, R>(options: RowOptions<Req, Id, Row, R>): Plan<Req, R> =>
  byRows<Req, Id, Row, Array<Row>, R>(
    options,
    (rows, row) => {
      if (rows === undefined) return [row]
      rows.push(row)
      return rows
    },
    // Sound: the request succeeds with a list of rows, of whatever length.
    (rows = []) => Exit.succeed(rows as Request.Success<Req>)
  )

/** Asks once for each distinct id, and collects the rows of each id: unequal requests may have the same id. */
const byRows = <Req extends Request.Any, Id, Row, Rows, R>(
  options: RowOptions<Req, Id, Row, R>,
  add: (rows: Rows | undefined, row: Row) => Rows,
  exitOf: (rows: Rows | undefined, request: Req) => Result<Req>
): Plan<Req, R> =>
(items) => {
  const ids: Array<Id> = []
  const places: Array<number> = []
  const placeOf = new ValueMap<number>()
  const found: Array<Rows | undefined> = []
  const ask = ({ request }: Item<Req>): void => {
    const id = options.id(request)
    const known = placeOf.get(id)
    if (known === undefined) placeOf.add(id, ids.length)
    places.push(known ?? ids.push(id) - 1)
  }
  const sort = (row: Row): void => {
    const place = placeOf.get(options.resultId(row))
    if (place !== undefined) found[place] = add(found[place], row)
  }
  const answer = (item: Item<Req>, i: number): void => {
    item.exit = exitOf(found[places[i]!], item.request)
  }
  return andThen(forEachInTurns(items, ask), () => {
    found.length = ids.length
    // Sound: there is at least one item, so there is an id.
    return Effect.flatMap(options.execute(ids as NonEmptyArray<Id>), (rows) => {
      const all: ReadonlyArray<Row> = Array.isArray(rows) ? rows : Array.from(rows)
      return andThen(forEachInTurns(all, sort), () => forEachInTurns(items, answer))
    })
  })
}

/** The results come in the order of the requests. */
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
      const resolver = items[0].batch.group.groups.nameFor(items[0].request)
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
