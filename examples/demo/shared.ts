/**
 * The catalog with Funnel in several processes: equal questions in flight anywhere share one run, and the queries at once
 * are bounded for all processes together. Beside the layers only the two questions differ from funnel.ts: they have schemas, so
 * that their answers can travel.
 */
import { Effect, Layer, Schema } from "effect"
import { Reducer } from "effect-funnel"
import * as RedisReducer from "effect-funnel/redis/Reducer"
import * as RedisScheduler from "effect-funnel/redis/Scheduler"
import { reduceShared } from "effect-funnel/SharedReducer"
import { Persistable } from "effect/persistence"
import { Author, Package, PackageNotFound, TooBusy } from "./api.ts"
import { Catalog } from "./catalog.ts"
import { DatabaseError } from "./database.ts"
import { answers, Lookups, Queries, queriesAtOnce, Runs } from "./funnel.ts"

const error = Schema.Union([PackageNotFound, TooBusy, DatabaseError])

class Find extends Persistable.Class<{ payload: { readonly name: string } }>()("Find", {
  primaryKey: (_) => _.name,
  success: Package,
  error
}) {}

class Authors extends Persistable.Class<{ payload: { readonly name: string } }>()("Authors", {
  primaryKey: (_) => _.name,
  success: Schema.Array(Author),
  error
}) {}

/** Over a Redis that all processes of one run of the demo share, under a prefix of that run. */
export const layer = (options: { readonly prefix: string; readonly processes: number }) =>
  Layer.effect(
    Catalog,
    Effect.gen(function*() {
      const reducer = yield* Reducer.Reducer
      const catalog = yield* answers
      return Catalog.of({
        ...catalog,
        find: (name) =>
          reduceShared(new Find({ name }), () => catalog.find(name)).pipe(
            Effect.provideService(Reducer.Reducer, reducer),
            Effect.catchTag("ReducerError", Effect.die)
          ),
        authors: (name) =>
          reduceShared(new Authors({ name }), () => catalog.authors(name)).pipe(
            Effect.provideService(Reducer.Reducer, reducer),
            Effect.catchTag("ReducerError", Effect.die)
          )
      })
    })
  ).pipe(Layer.provide([
    RedisReducer.layer({ prefix: options.prefix }),
    Runs.layer,
    Lookups.pipe(Layer.provide(RedisScheduler.layerService(Queries, {
      prefix: options.prefix,
      concurrency: queriesAtOnce * options.processes
    })))
  ]))
