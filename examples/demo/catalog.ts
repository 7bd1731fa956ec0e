/**
 * The server's catalog of packages: two answers, made from single look-ups. The answers are the same code with and
 * without Funnel; only what stands between a look-up and the database differs (direct.ts, funnel.ts).
 */
import { Context, Effect, Schema } from "effect"
import { Author, Package } from "./api.ts"
import type { PackageNotFound, TooBusy } from "./api.ts"
import type { DatabaseError } from "./database.ts"

export class Catalog extends Context.Service<Catalog, {
  readonly find: (name: string) => Effect.Effect<Package, PackageNotFound | TooBusy | DatabaseError>
  readonly authors: (name: string) => Effect.Effect<ReadonlyArray<Author>, PackageNotFound | TooBusy | DatabaseError>
  /** How many times one of the two effects above ran. */
  readonly effects: Effect.Effect<number>
}>()("demo/Catalog") {}

export const PackageRow = Schema.Struct({ name: Schema.String, description: Schema.String, license: Schema.String })
export const InstallRow = Schema.Struct({ package: Schema.String, version: Schema.String, path: Schema.String })
export const AuthorRow = Schema.Struct({
  package: Schema.String,
  person: Schema.String,
  name: Schema.String,
  role: Schema.String
})
export const WorkRow = Schema.Struct({ person: Schema.String, package: Schema.String, role: Schema.String })

/** The queries, each for any number of ids. */
export const sql = {
  packages: `SELECT name, description, license FROM packages WHERE name IN (SELECT value FROM json_each(?))`,
  installs: `SELECT package, version, path FROM installs
    WHERE package IN (SELECT value FROM json_each(?)) ORDER BY package, path`,
  authors: `SELECT package, person, name, role FROM authors JOIN people ON people.id = person
    WHERE package IN (SELECT value FROM json_each(?)) ORDER BY package, role, person`,
  works: `SELECT person, package, role FROM authors
    WHERE person IN (SELECT value FROM json_each(?)) ORDER BY person, package, role`
}

/** One look-up each. */
export interface Lookups {
  readonly pkg: (name: string) => Effect.Effect<typeof PackageRow.Type, PackageNotFound | DatabaseError>
  readonly installs: (pkg: string) => Effect.Effect<ReadonlyArray<typeof InstallRow.Type>, DatabaseError>
  readonly authors: (pkg: string) => Effect.Effect<ReadonlyArray<typeof AuthorRow.Type>, DatabaseError>
  readonly works: (person: string) => Effect.Effect<ReadonlyArray<typeof WorkRow.Type>, DatabaseError>
}

/** The two answers. An author's packages are looked up one author at a time: a list of n authors is 1 + n look-ups. */
export const make = (lookups: Lookups): Catalog["Service"] => {
  let effects = 0
  return Catalog.of({
    find: Effect.fnUntraced(function*(name) {
      effects++
      const [row, installs] = yield* Effect.all([lookups.pkg(name), lookups.installs(name)], {
        concurrency: "unbounded"
      })
      return new Package({ ...row, installs: installs.map(({ path, version }) => ({ version, path })) })
    }),
    authors: Effect.fnUntraced(function*(name) {
      effects++
      const [, authors] = yield* Effect.all([lookups.pkg(name), lookups.authors(name)], { concurrency: "unbounded" })
      return yield* Effect.forEach(authors, (author) =>
        Effect.map(lookups.works(author.person), (works) =>
          new Author({
            name: author.name,
            role: author.role,
            packages: works
              .filter((work) => work.package !== name)
              .map((work) => ({ name: work.package, role: work.role }))
          })), { concurrency: "unbounded" })
    }),
    effects: Effect.sync(() => effects)
  })
}
