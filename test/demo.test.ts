import { NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Array, Deferred, Effect, Exit, Fiber, FileSystem, Layer, Schema } from "effect"
import { CliConfig, Command, GlobalFlag } from "effect/cli"
import { HttpClient, HttpServer } from "effect/http"
import { fileURLToPath } from "node:url"
import { Statistics } from "../examples/demo/api.ts"
import * as Client from "../examples/demo/client.ts"
import { command } from "../examples/demo/command.ts"
import { Database } from "../examples/demo/database.ts"
import { judge, measure } from "../examples/demo/demo.ts"
import type { Run } from "../examples/demo/demo.ts"
import * as Direct from "../examples/demo/direct.ts"
import * as Funnel from "../examples/demo/funnel.ts"
import { readInstalled } from "../examples/demo/packages.ts"
import type { Installed } from "../examples/demo/packages.ts"
import * as Progress from "../examples/demo/progress.ts"
import { renderTable, renderVerdict } from "../examples/demo/report.ts"
import * as Server from "../examples/demo/server.ts"

const root = fileURLToPath(new URL("../node_modules", import.meta.url))
const limits = { concurrency: 50, rate: 1000 }

/** The packages that npm reports as installed. */
const Lock = Schema.fromJsonString(
  Schema.Struct({ packages: Schema.Record(Schema.String, Schema.Struct({ version: Schema.String })) })
)

const withServer = <A, E>(
  catalog: typeof Direct.layer | typeof Funnel.layer,
  use: (ask: (path: string) => Effect.Effect<{ status: number; body: unknown }, unknown>) => Effect.Effect<A, E>
) =>
  Effect.gen(function*() {
    const installed = yield* readInstalled(root)
    return yield* HttpServer.addressFormattedWith((url) =>
      HttpClient.HttpClient.use((client) =>
        use((path) =>
          client.get(url + path).pipe(
            Effect.flatMap((response) => Effect.map(response.json, (body) => ({ status: response.status, body })))
          )
        )
      ).pipe(Effect.provide(Client.layerHttp(limits)))
    ).pipe(
      Effect.provide(Server.layer.pipe(Layer.provide(catalog), Layer.provide(Database.layer(installed))))
    )
  })

/** The services of the platform, and the temporary directories made with them. */
const watched = () => {
  const directories: Array<string> = []
  const layer = Layer.effect(
    FileSystem.FileSystem,
    Effect.map(FileSystem.FileSystem, (fs) =>
      FileSystem.FileSystem.of({
        ...fs,
        makeTempDirectoryScoped: (options) =>
          Effect.tap(fs.makeTempDirectoryScoped(options), (directory) => Effect.sync(() => directories.push(directory)))
      }))
  ).pipe(Layer.provideMerge(NodeServices.layer))
  const left = FileSystem.FileSystem.use((fs) => Effect.filter(directories, fs.exists))
  return { layer, directories, left }
}

describe("the packages", () => {
  it.effect("are all packages that npm has installed, nested ones included", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const lock = yield* Schema.decodeEffect(Lock)(yield* fs.readFileString(`${root}/.package-lock.json`))
      const installed = yield* readInstalled(root)
      // The script of `node` installs the binary of this platform inside itself, unknown to npm, and npm may leave it there.
      const known = installed.filter((pkg) => !pkg.path.startsWith("node/node_modules/"))
      expect(Object.fromEntries(known.map((pkg) => [`node_modules/${pkg.path}`, pkg.version])))
        .toEqual(Object.fromEntries(Object.entries(lock.packages).map(([path, { version }]) => [path, version])))
      expect(installed.some((pkg) => pkg.path.includes("/node_modules/"))).toBe(true)
      expect(installed.find((pkg) => pkg.name === "string-width")?.authors)
        .toContainEqual({ name: "Sindre Sorhus", role: "author" })
    }).pipe(Effect.provide(NodeServices.layer)))
})

describe.each([["without Funnel", Direct.layer], ["with Funnel", Funnel.layer]] as const)(
  "the server %s",
  (_, catalog) => {
    it.live("answers questions about scoped and nested packages, and about their authors with their other packages", () =>
      withServer(catalog, (ask) =>
        Effect.gen(function*() {
          const scoped = yield* ask("/packages/%40types%2Fnode")
          expect(scoped.status).toBe(200)
          expect(scoped.body).toMatchObject({
            name: "@types/node",
            license: "MIT",
            installs: [{ path: "@types/node" }]
          })

          const authors = yield* ask("/packages/string-width/authors")
          expect(authors.status).toBe(200)
          expect(authors.body).toMatchObject([{ name: "Sindre Sorhus", role: "author" }])
          expect(authors.body).toMatchObject([{
            packages: expect.arrayContaining([expect.objectContaining({ role: "author" })])
          }])
          expect(JSON.stringify(authors.body)).not.toContain("\"string-width\"")
        })).pipe(Effect.provide(NodeServices.layer)))

    it.live("answers 404 for a package that is not installed", () =>
      withServer(catalog, (ask) =>
        Effect.gen(function*() {
          for (const path of ["/packages/no-such-package", "/packages/no-such-package/authors"]) {
            const { body, status } = yield* ask(path)
            expect(status).toBe(404)
            expect(body).toMatchObject({ _tag: "PackageNotFound", name: "no-such-package" })
          }
        })).pipe(Effect.provide(NodeServices.layer)))
  }
)

describe("the requests", () => {
  const names = Array.map(Array.range(1, 100), (n) => `@scope/package-${n}`)

  it.effect("are the same for the same seed, and differ for another", () =>
    Effect.gen(function*() {
      const one = yield* Client.draw(names, { requests: 500, seed: 1 })
      expect(yield* Client.draw(names, { requests: 500, seed: 1 })).toEqual(one)
      expect(yield* Client.draw(names, { requests: 500, seed: 2 })).not.toEqual(one)
      expect(yield* Client.draw(names, { requests: 100, seed: 1 })).toEqual(one.slice(0, 100))
    }))

  it.effect("ask for few packages often and for most of them rarely, half of the time for authors", () =>
    Effect.gen(function*() {
      const paths = yield* Client.draw(names, { requests: 5000, seed: 1 })
      const counts = Object.values(Array.groupBy(paths, (path) => path.replace(/\/authors$/, "")))
        .map((some) => some.length)
        .toSorted((a, b) => b - a)
      // 1/1 to 1/100 add up to 5.19: 964 for the first, 482 for the second, 10 for the last.
      expect(counts[0]).toBeGreaterThan(850)
      expect(counts[0]).toBeLessThan(1080)
      expect(counts[1]).toBeLessThan(600)
      expect(counts[50]).toBeLessThan(50)
      const authors = paths.filter((path) => path.endsWith("/authors")).length
      expect(Math.abs(authors - 2500)).toBeLessThan(150)
      expect(paths[0]).toMatch(/^\/packages\/%40scope%2Fpackage-\d+(\/authors)?$/)
    }))
})

describe("the two runs", () => {
  const runs = Effect.gen(function*() {
    const installed = yield* readInstalled(root)
    const names = Array.map(installed, (pkg: Installed) => pkg.name)
    const paths = yield* Client.draw(names as Array.NonEmptyArray<string>, { requests: 150, seed: 1 })
    const common = { installed, paths, limits, progress: Progress.none }
    const without = yield* measure({ ...common, title: "without Funnel", catalog: Direct.layer })
    const withFunnel = yield* measure({ ...common, title: "with Funnel", catalog: Funnel.layer })
    return { without, withFunnel }
  })

  it.live("give the same answers to the same requests, the second with at most a fifth of the queries", () =>
    Effect.gen(function*() {
      const { without, withFunnel } = yield* runs
      const verdict = judge(without, withFunnel)
      expect(verdict).toMatchObject({ sameAnswers: 150, requests: 150, errors: 0 })
      expect(new Set(without.outcomes.map((outcome) => outcome.hash)).size).toBeGreaterThan(30)
      expect(without.server.effects).toBe(150)
      expect(withFunnel.server.effects).toBeLessThan(150)
      expect(withFunnel.server.queries * 5).toBeLessThanOrEqual(without.server.queries)
      expect(withFunnel.server.mostQueriesAtOnce).toBeLessThanOrEqual(Funnel.queriesAtOnce)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("stop when they are interrupted, and leave no file behind", () => {
    const { directories, layer, left } = watched()
    return Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      const installed = yield* readInstalled(root)
      const fiber = yield* Effect.forkChild(measure({
        title: "interrupted",
        catalog: Direct.layer,
        installed,
        paths: Array.replicate("/packages/effect", 100_000),
        limits,
        progress: () => Effect.succeed({ update: () => Deferred.doneUnsafe(begun, Exit.void) })
      }))
      yield* Deferred.await(begun)
      expect(directories).toHaveLength(1)
      expect(yield* left).toEqual(directories)
      yield* Fiber.interrupt(fiber)
      expect(yield* left).toEqual([])
    }).pipe(Effect.provide(layer))
  })
})

describe("the verdict", () => {
  const aRun = (title: string, queries: number, hashes: ReadonlyArray<string>, status = 200): Run => ({
    title,
    outcomes: hashes.map((hash, i) => ({ status, hash, millis: i + 1 })),
    millis: 1234,
    server: new Statistics({ effects: hashes.length, queries, mostQueriesAtOnce: 3 })
  })
  const without = aRun("without", 100, ["a", "b"])

  it("passes for the same answers with a tenth of the queries", () => {
    expect(judge(without, aRun("with", 10, ["a", "b"])).passed).toBe(true)
  })

  it("fails for one query more than a tenth, a different answer, a missing answer, a failed request", () => {
    expect(judge(without, aRun("with", 11, ["a", "b"]))).toMatchObject({ passed: false, sameAnswers: 2 })
    expect(judge(without, aRun("with", 10, ["a", "c"]))).toMatchObject({ passed: false, sameAnswers: 1 })
    expect(judge(without, aRun("with", 10, ["a"]))).toMatchObject({ passed: false, sameAnswers: 1 })
    expect(judge(without, aRun("with", 10, ["a", "b"], 500))).toMatchObject({ passed: false, errors: 2 })
  })

  it("reports its findings and explains the latency", () => {
    const window = "What this saves is paid for in latency: a look-up waits up to 20 ms for others to travel with, "
      + "and for a place."
    expect(renderVerdict(judge(without, aRun("with", 10, ["a", "b"])))).toBe(
      "Every request got the same answer in both runs.\n10 queries instead of 100: 10.0 times fewer.\n" + window
    )
    expect(renderVerdict(judge(without, aRun("with", 20, ["a", "c"], 500)))).toBe(
      "Only 1 of 2 requests got the same answer in both runs.\nFailed requests: 2.\n"
        + "20 queries instead of 100: 5.0 times fewer.\n"
        + "The demo asks for 10 times fewer. The more requests are under way at once, the more they share.\n" + window
    )
  })

  it("comes with a table of requests, effects, queries, times and errors", () => {
    const table = renderTable([without, aRun("with", 10, ["a", "b"], 500)])
    const row = (title: string) =>
      table.split("\n").find((line) => line.includes(`│ ${title} `))?.split("│").slice(2, -1).map((cell) => cell.trim())
    expect(row("requests")).toEqual(["2", "2"])
    expect(row("effects run")).toEqual(["2", "2"])
    expect(row("SQL queries")).toEqual(["100", "10"])
    expect(row("wall time")).toEqual(["1.23 s", "1.23 s"])
    expect(row("p50")).toEqual(["1.0 ms", "1.0 ms"])
    expect(row("p99")).toEqual(["2.0 ms", "2.0 ms"])
    expect(row("errors")).toEqual(["0", "2"])
  })
})

describe("the command line", () => {
  const run = Command.runWith(command, { version: "0.1.0", renderErrors: false })

  it.effect.each([
    ["--requests", "0", "Expected a whole number from 1 to 1,000,000, got 0"],
    ["--requests", "-1", "Expected a whole number from 1 to 1,000,000, got -1"],
    ["--requests", "1000001", "Expected a whole number from 1 to 1,000,000, got 1000001"],
    ["--concurrency", "0", "Expected a whole number from 1 to 1,000,000, got 0"],
    ["--concurrency", "1.5", "Expected an integer"],
    ["--rate", "NaN", "Expected a string representing a finite number"],
    ["--rate", "Infinity", "Expected a string representing a finite number"],
    ["--rate", "many", "Expected a string representing a finite number"],
    ["--seed", "1.5", "Expected an integer"]
  ])("refuses %s %s before any run", ([flag, value, expected]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(run([flag, value]))
      expect(error).toMatchObject({
        _tag: "ShowHelp",
        errors: [{ message: `Invalid value for flag ${flag}: "${value}". ${expected}` }]
      })
    }).pipe(Effect.provide([NodeServices.layer, CliConfig.layer({ builtIns: [GlobalFlag.Help] })])))

  it.effect("refuses unknown flags", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(run(["--request", "5"]))).toMatchObject({ _tag: "ShowHelp" })
    }).pipe(Effect.provide(NodeServices.layer)))
})
