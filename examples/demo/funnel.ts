/**
 * The catalog with Funnel: equal questions in flight share one run (Reducer), the look-ups inside travel together
 * (Batcher), and few queries run at once (Scheduler). The answers are made by the same code as without.
 */
import { Effect, Exit, Layer, Request } from "effect"
import { Batcher, Reducer, Scheduler } from "effect-funnel"
import { PackageNotFound } from "./api.ts"
import { AuthorRow, Catalog, InstallRow, make, PackageRow, sql, WorkRow } from "./catalog.ts"
import { Database } from "./database.ts"
import type { DatabaseError } from "./database.ts"

export const queriesAtOnce = 4
/**
 * How long a look-up waits for others to travel with; one that finds a batch in the queue goes with that. With "idle" the
 * answers come some milliseconds sooner, and it takes half as many queries again: the four places are never free.
 */
export const windowMillis = 20

export class Queries extends Scheduler.Service<Queries>()("demo/Queries", { concurrency: queriesAtOnce }) {}

class GetPackage extends Request.Class<
  { readonly name: string },
  typeof PackageRow.Type,
  PackageNotFound | DatabaseError
> {}

class GetInstalls extends Request.Class<
  { readonly pkg: string },
  ReadonlyArray<typeof InstallRow.Type>,
  DatabaseError
> {}

class GetAuthors extends Request.Class<
  { readonly pkg: string },
  ReadonlyArray<typeof AuthorRow.Type>,
  DatabaseError
> {}

class GetWorks extends Request.Class<
  { readonly person: string },
  ReadonlyArray<typeof WorkRow.Type>,
  DatabaseError
> {}

class Packages extends Batcher.Resolver<Packages>()(
  "demo/Packages",
  Batcher.findById(GetPackage, {
    id: ({ name }) => name,
    execute: (names) => Database.use((database) => database.select(PackageRow, sql.packages, names)),
    resultId: (row) => row.name,
    missing: ({ name }) => Exit.fail(new PackageNotFound({ name }))
  })
) {}

class Installs extends Batcher.Resolver<Installs>()(
  "demo/Installs",
  Batcher.grouped(GetInstalls, {
    id: ({ pkg }) => pkg,
    execute: (pkgs) => Database.use((database) => database.select(InstallRow, sql.installs, pkgs)),
    resultId: (row) => row.package
  })
) {}

class Authors extends Batcher.Resolver<Authors>()(
  "demo/Authors",
  Batcher.grouped(GetAuthors, {
    id: ({ pkg }) => pkg,
    execute: (pkgs) => Database.use((database) => database.select(AuthorRow, sql.authors, pkgs)),
    resultId: (row) => row.package
  })
) {}

class Works extends Batcher.Resolver<Works>()(
  "demo/Works",
  Batcher.grouped(GetWorks, {
    id: ({ person }) => person,
    execute: (people) => Database.use((database) => database.select(WorkRow, sql.works, people)),
    resultId: (row) => row.person
  })
) {}

/** The look-ups, whose batches are admitted by the scheduler beneath. */
export const Lookups = Layer.mergeAll(Packages.layer, Installs.layer, Authors.layer, Works.layer).pipe(
  Layer.provide(Batcher.layer({ scheduler: Queries, window: windowMillis }))
)

/** The catalog over the look-ups: each question is answered anew. */
export const answers = Effect.gen(function*() {
  const packages = yield* Packages
  const installs = yield* Installs
  const authors = yield* Authors
  const works = yield* Works
  return make({
    pkg: (name) => Effect.request(new GetPackage({ name }), packages),
    installs: (pkg) => Effect.request(new GetInstalls({ pkg }), installs),
    authors: (pkg) => Effect.request(new GetAuthors({ pkg }), authors),
    works: (person) => Effect.request(new GetWorks({ person }), works)
  })
})

export const layer = Layer.effect(
  Catalog,
  Effect.gen(function*() {
    const reducer = yield* Reducer.Reducer
    const catalog = yield* answers
    return Catalog.of({
      ...catalog,
      find: reducer.fn("find")(catalog.find),
      authors: reducer.fn("authors")(catalog.authors)
    })
  })
).pipe(
  Layer.provide([Reducer.layer(), Lookups.pipe(Layer.provide(Queries.layer))])
)
