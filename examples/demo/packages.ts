/**
 * The packages installed under a `node_modules` directory, nested ones too, and who wrote them.
 */
import { Array, Effect, FileSystem, Option, Path, Predicate, Schema, String } from "effect"

export interface Installed {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  /** Where it is installed, below the root. */
  readonly path: string
  readonly authors: ReadonlyArray<Author>
}

export interface Author {
  readonly name: string
  readonly role: "author" | "maintainer" | "contributor"
}

const Manifest = Schema.fromJsonString(Schema.Struct({
  name: Schema.NonEmptyString,
  version: Schema.NonEmptyString,
  description: Schema.optionalKey(Schema.Unknown),
  license: Schema.optionalKey(Schema.Unknown),
  author: Schema.optionalKey(Schema.Unknown),
  maintainers: Schema.optionalKey(Schema.Unknown),
  contributors: Schema.optionalKey(Schema.Unknown)
}))

const decode = Schema.decodeOption(Manifest)

/** Reads them all, in the order of their paths. A `package.json` without a name and a version is not a package. */
export const readInstalled = Effect.fn("readInstalled")(function*(root: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path

  const inDirectory = (
    directory: string
  ): Effect.Effect<ReadonlyArray<string>, Effect.Error<ReturnType<typeof fs.readDirectory>>> =>
    fs.readDirectory(directory).pipe(
      Effect.map((names) => names.filter((name) => !name.startsWith(".")).toSorted()),
      Effect.flatMap(Effect.forEach((name) => {
        const child = path.join(directory, name)
        return name.startsWith("@") ? inDirectory(child) : withNested(child)
      }, { concurrency: 8 })),
      Effect.map(Array.flatten)
    )

  const withNested = Effect.fnUntraced(function*(directory: string) {
    const nested = path.join(directory, "node_modules")
    const below = (yield* fs.exists(nested)) ? yield* inDirectory(nested) : []
    return (yield* fs.exists(path.join(directory, "package.json"))) ? [directory, ...below] : below
  })

  const directories = yield* inDirectory(root)
  const read = yield* Effect.forEach(
    directories,
    (directory) =>
      fs.readFileString(path.join(directory, "package.json")).pipe(
        Effect.map((text) =>
          Option.map(decode(text), (manifest) => fromManifest(manifest, path.relative(root, directory)))
        )
      ),
    { concurrency: 16 }
  )
  return Array.getSomes(read)
})

const fromManifest = (manifest: typeof Manifest.Type, path: string): Installed => ({
  name: manifest.name,
  version: manifest.version,
  description: Predicate.isString(manifest.description) ? manifest.description : "",
  license: Predicate.isString(manifest.license) ? manifest.license : "",
  path,
  authors: [
    ...people(manifest.author).map((name) => ({ name, role: "author" as const })),
    ...people(manifest.maintainers).map((name) => ({ name, role: "maintainer" as const })),
    ...people(manifest.contributors).map((name) => ({ name, role: "contributor" as const }))
  ]
})

/** npm knows a person as `{ "name": … }` and as `"Name <mail> (site)"`, one or many. */
const people = (field: unknown): ReadonlyArray<string> =>
  Array.ensure(field).flatMap((person) => {
    const written = Predicate.isString(person)
      ? person
      : Predicate.hasProperty(person, "name") && Predicate.isString(person.name)
      ? person.name
      : ""
    const name = written.replace(/[<(].*$/, "").trim()
    return String.isNonEmpty(name) ? [name] : []
  })
