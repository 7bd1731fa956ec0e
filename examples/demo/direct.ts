/**
 * The catalog without Funnel: every look-up is a query of its own.
 */
import { Effect, Layer } from "effect"
import { PackageNotFound } from "./api.ts"
import { AuthorRow, Catalog, InstallRow, make, PackageRow, sql, WorkRow } from "./catalog.ts"
import { Database } from "./database.ts"

export const layer = Layer.effect(
  Catalog,
  Effect.map(Database, (database) =>
    make({
      pkg: (name) =>
        Effect.flatMap(
          database.select(PackageRow, sql.packages, [name]),
          ([row]) => row === undefined ? Effect.fail(new PackageNotFound({ name })) : Effect.succeed(row)
        ),
      installs: (pkg) => database.select(InstallRow, sql.installs, [pkg]),
      authors: (pkg) => database.select(AuthorRow, sql.authors, [pkg]),
      works: (person) => database.select(WorkRow, sql.works, [person])
    }))
)
