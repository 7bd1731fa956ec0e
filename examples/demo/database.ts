/**
 * An embedded SQL database in a temporary file, behind a pool of connections. A query holds a connection for 15 ms, as if
 * the database were across a network, and is counted. Queries that find no free connection wait in the pool, in order; one
 * whose caller gives up leaves the pool. A query that has a connection runs to its end.
 */
import { Context, Effect, FileSystem, Layer, Path, Schema, Semaphore } from "effect"
import { DatabaseSync } from "node:sqlite"
import type { StatementSync } from "node:sqlite"
import type { Installed } from "./packages.ts"

export class DatabaseError extends Schema.TaggedError<DatabaseError>()("DatabaseError", {
  sql: Schema.String,
  cause: Schema.Defect()
}) {}

export interface Statistics {
  /** How many queries got a connection. */
  readonly queries: number
  /** The most queries that ran at the same time. */
  readonly mostAtOnce: number
}

export const delayMillis = 15

/** How many connections the pool has. */
export const poolSize = 4

/** How many queries run at once; "unbounded" stands for a database that has no limit. */
export type Connections = number | "unbounded"

export class Database extends Context.Service<Database, {
  /** One query: the rows for all of these ids. The query names the ids as `(SELECT value FROM json_each(?))`. */
  readonly select: <A>(
    row: Schema.Decoder<A>,
    sql: string,
    ids: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<A>, DatabaseError>
  readonly statistics: Effect.Effect<Statistics>
}>()("demo/Database") {
  /** Creates the file, fills it, and removes it when the scope closes. */
  static readonly layer = (options: {
    readonly installed: ReadonlyArray<Installed>
    readonly connections: Connections
  }) =>
    Layer.effect(
      Database,
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-funnel-demo-" })
        const connection = yield* Effect.acquireRelease(
          Effect.sync(() => new DatabaseSync(path.join(directory, "packages.sqlite"))),
          (opened) => Effect.sync(() => opened.close())
        )
        yield* Effect.sync(() => fill(connection, options.installed))

        const statements = new Map<string, StatementSync>()
        const prepared = (sql: string): StatementSync => {
          let statement = statements.get(sql)
          if (statement === undefined) {
            statements.set(sql, statement = connection.prepare(sql))
          }
          return statement
        }

        const pool = yield* Semaphore.make(options.connections === "unbounded" ? Infinity : options.connections)
        let queries = 0
        let running = 0
        let mostAtOnce = 0
        const begin = Effect.sync(() => {
          queries++
          mostAtOnce = Math.max(mostAtOnce, ++running)
        })
        const end = Effect.sync(() => {
          running--
        })

        return Database.of({
          select: (row, sql, ids) =>
            Effect.acquireUseRelease(
              begin,
              () =>
                Effect.sleep(delayMillis).pipe(
                  Effect.andThen(Effect.try({
                    try: () => prepared(sql).all(JSON.stringify(ids)),
                    catch: (cause) => new DatabaseError({ sql, cause })
                  })),
                  Effect.flatMap(Schema.decodeUnknownEffect(Schema.Array(row))),
                  Effect.catchTag("SchemaError", (cause) => Effect.fail(new DatabaseError({ sql, cause })))
                ),
              () => end
            ).pipe(Effect.uninterruptible, pool.withPermits(1)),
          statistics: Effect.sync(() => ({ queries, mostAtOnce }))
        })
      })
    )
}

const fill = (connection: DatabaseSync, installed: ReadonlyArray<Installed>): void => {
  connection.exec(`
    CREATE TABLE packages (name TEXT PRIMARY KEY, description TEXT NOT NULL, license TEXT NOT NULL) STRICT;
    CREATE TABLE installs (package TEXT NOT NULL, version TEXT NOT NULL, path TEXT PRIMARY KEY) STRICT;
    CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT;
    CREATE TABLE authors (package TEXT NOT NULL, person TEXT NOT NULL, role TEXT NOT NULL,
      PRIMARY KEY (package, person, role)) STRICT;
    CREATE INDEX installs_of_package ON installs (package);
    CREATE INDEX authors_by_person ON authors (person);
  `)
  const addPackage = connection.prepare("INSERT OR IGNORE INTO packages VALUES (?, ?, ?)")
  const addInstall = connection.prepare("INSERT INTO installs VALUES (?, ?, ?)")
  const addPerson = connection.prepare("INSERT OR IGNORE INTO people VALUES (?, ?)")
  const addAuthor = connection.prepare("INSERT OR IGNORE INTO authors VALUES (?, ?, ?)")
  connection.exec("BEGIN")
  for (const { authors, description, license, name, path, version } of installed) {
    addPackage.run(name, description, license)
    addInstall.run(name, version, path)
    for (const author of authors) {
      const person = author.name.toLowerCase()
      addPerson.run(person, author.name)
      addAuthor.run(name, person, author.role)
    }
  }
  connection.exec("COMMIT")
}
