/**
 * The catalog with Funnel: equal questions in flight share one run (Reducer), the look-ups inside share queries (Batcher), and
 * no more queries run at once than the pool has connections (Scheduler). If even that is not enough, new runs are refused at
 * once (`shed`). The answers are made by the same code as without.
 */
import { Effect, Exit, Layer, Request } from "effect"
import { Batcher, Reducer, Scheduler } from "effect-funnel"
import { PackageNotFound, TooBusy } from "./api.ts"
import { AuthorRow, Catalog, InstallRow, make, PackageRow, sql, WorkRow } from "./catalog.ts"
import { Database, poolSize } from "./database.ts"
import type { DatabaseError } from "./database.ts"

/** One for each connection of the pool. */
export const queriesAtOnce = poolSize
/**
 * How long a look-up waits for others to share its query; one that finds a batch in the queue goes with that. With "idle" the
 * answers come some milliseconds sooner, and it takes half as many queries again: the four places are never free.
 */
export const windowMillis = 20

/** How long a caller waits for an answer. */
export const patienceMillis = 1000

export class Queries extends Scheduler.Service<Queries>()("demo/Queries", { concurrency: queriesAtOnce }) {}

/** The runs. If they queue although a hundred are under way, the server answers 503 instead of letting callers wait in vain. */
export class Runs extends Scheduler.Service<Runs>()("demo/Runs", {
  concurrency: 100,
  maxWait: patienceMillis,
  shed: true
}) {}

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

/** The catalog over the look-ups: each question is a run of its own. */
export const answers = Effect.gen(function*() {
  const runs = yield* Runs
  const packages = yield* Packages
  const installs = yield* Installs
  const authors = yield* Authors
  const works = yield* Works
  const catalog = make({
    pkg: (name) => Effect.request(new GetPackage({ name }), packages),
    installs: (pkg) => Effect.request(new GetInstalls({ pkg }), installs),
    authors: (pkg) => Effect.request(new GetAuthors({ pkg }), authors),
    works: (person) => Effect.request(new GetWorks({ person }), works)
  })
  const admit = <A, E>(run: Effect.Effect<A, E>) =>
    Effect.catchTag(runs.schedule(run), "SchedulerError", () => Effect.fail(new TooBusy()))
  return Catalog.of({
    find: (name) => admit(catalog.find(name)),
    authors: (name) => admit(catalog.authors(name)),
    effects: catalog.effects
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
  Layer.provide([Reducer.layer(), Runs.layer, Lookups.pipe(Layer.provide(Queries.layer))])
)
