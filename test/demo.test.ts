import { NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Array, Deferred, Effect, Exit, Fiber, FileSystem, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { CliConfig, Command, GlobalFlag } from "effect/cli"
import { HttpClient, HttpServer } from "effect/http"
import { fileURLToPath } from "node:url"
import { Statistics } from "../examples/demo/api.ts"
import * as Client from "../examples/demo/client.ts"
import { command } from "../examples/demo/command.ts"
import { PackageRow, sql } from "../examples/demo/catalog.ts"
import { Database, delayMillis, poolSize } from "../examples/demo/database.ts"
import type { Connections } from "../examples/demo/database.ts"
import { judge, measure, rightAnswers } from "../examples/demo/demo.ts"
import type { Run } from "../examples/demo/demo.ts"
import * as Direct from "../examples/demo/direct.ts"
import * as Funnel from "../examples/demo/funnel.ts"
import { readInstalled } from "../examples/demo/packages.ts"
import type { Installed } from "../examples/demo/packages.ts"
import * as Progress from "../examples/demo/progress.ts"
import { renderTable, renderVerdict } from "../examples/demo/report.ts"
import * as Server from "../examples/demo/server.ts"
import { fork } from "./support/fibers.ts"

const root = fileURLToPath(new URL("../node_modules", import.meta.url))

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
      ).pipe(Effect.provide(Client.layerHttp))
    ).pipe(
      Effect.provide(
        Server.layer.pipe(
          Layer.provide(catalog),
          Layer.provide(Database.layer({ installed, connections: "unbounded" }))
        )
      )
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

describe("the server with Funnel, over a database that answers nobody", () => {
  const stuck = Layer.succeed(
    Database,
    Database.of({ select: () => Effect.never, statistics: Effect.succeed({ queries: 0, mostAtOnce: 0 }) })
  )

  it.live("answers 503 to a request that cannot end in time", () =>
    HttpServer.addressFormattedWith((url) =>
      Effect.gen(function*() {
        const urls = Array.makeBy(101, (n) => `${url}/packages/package-${n}`)
        const outcomes = yield* Client.send({ urls, rate: 1000, patience: 4000, progress: { update: () => {} } })
        const ends = outcomes.map((outcome) => outcome.end)
        expect(ends.filter((end) => end === "refused")).toHaveLength(1)
        expect(ends.filter((end) => end === "gave up")).toHaveLength(100)
      }).pipe(Effect.provide(Client.layerHttp))
    ).pipe(
      Effect.provide(Server.layer.pipe(Layer.provide(Funnel.layer), Layer.provide(stuck))),
      Effect.provide(NodeServices.layer)
    ))
})

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

describe("the pool", () => {
  it.effect("runs at most as many queries as it has connections, the others in order, and forgets a caller that leaves", () =>
    Effect.gen(function*() {
      const database = yield* Database
      const ended: Array<number> = []
      const query = (n: number) =>
        Effect.andThen(database.select(PackageRow, sql.packages, []), Effect.sync(() => void ended.push(n)))
      const fibers = yield* Effect.forEach(
        [1, 2, 3, 4, 5, 6],
        (n) => fork(query(n))
      )
      yield* TestClock.adjust(delayMillis - 1)
      expect(yield* database.statistics).toEqual({ queries: 2, mostAtOnce: 2 })
      yield* Fiber.interrupt(fibers[2]!)
      yield* TestClock.adjust(1)
      expect(ended).toEqual([1, 2])
      yield* TestClock.adjust(delayMillis)
      expect(ended).toEqual([1, 2, 4, 5])
      yield* TestClock.adjust(delayMillis)
      expect(ended).toEqual([1, 2, 4, 5, 6])
      expect(yield* database.statistics).toEqual({ queries: 5, mostAtOnce: 2 })
    }).pipe(Effect.provide(Database.layer({ installed: [], connections: 2 })), Effect.provide(NodeServices.layer)))

  it.effect("gives a connection to the next query when the query ends, also if its caller has left", () =>
    Effect.gen(function*() {
      const database = yield* Database
      const query = fork(database.select(PackageRow, sql.packages, []))
      const first = yield* query
      yield* query
      yield* fork(Fiber.interrupt(first))
      yield* TestClock.adjust(delayMillis - 1)
      expect(yield* database.statistics).toEqual({ queries: 1, mostAtOnce: 1 })
      yield* TestClock.adjust(1)
      expect(yield* database.statistics).toEqual({ queries: 2, mostAtOnce: 1 })
      yield* TestClock.adjust(delayMillis)
    }).pipe(Effect.provide(Database.layer({ installed: [], connections: 1 })), Effect.provide(NodeServices.layer)))
})

describe("the two runs", () => {
  const runs = Effect.fn(function*(connections: Connections, patience: number) {
    const installed = yield* readInstalled(root)
    const names = Array.map(installed, (pkg: Installed) => pkg.name)
    const paths = yield* Client.draw(names as Array.NonEmptyArray<string>, { requests: 150, seed: 1 })
    const common = { installed, connections, paths, rate: 500, patience, progress: Progress.none }
    const right = yield* rightAnswers({ catalog: Direct.layer, installed, paths, progress: Progress.none })
    const without = yield* measure({ ...common, title: "without Funnel", catalog: Direct.layer })
    const withFunnel = yield* measure({ ...common, title: "with Funnel", catalog: Funnel.layer })
    return { without, withFunnel, verdict: judge(without, withFunnel, right), right }
  })

  it.live("give the right answer to each request, the second with at most a fifth of the queries", () =>
    Effect.gen(function*() {
      const { right, verdict, without, withFunnel } = yield* runs("unbounded", 30_000)
      expect(verdict).toMatchObject({ answered: [150, 150], wrong: 0, failed: 0, passed: true })
      expect(new Set(right.values()).size).toBeGreaterThan(30)
      expect(without.server.effects).toBe(150)
      expect(withFunnel.server.effects).toBeLessThan(150)
      expect(withFunnel.server.queries * 5).toBeLessThanOrEqual(without.server.queries)
      expect(withFunnel.server.mostQueriesAtOnce).toBeLessThanOrEqual(Funnel.queriesAtOnce)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("have the same pool, in which the callers of the first wait", () =>
    Effect.gen(function*() {
      const { verdict, without, withFunnel } = yield* runs(poolSize, 30_000)
      expect(verdict).toMatchObject({ answered: [150, 150], wrong: 0, failed: 0, passed: true })
      expect(without.server.mostQueriesAtOnce).toBe(poolSize)
      expect(withFunnel.server.mostQueriesAtOnce).toBeLessThanOrEqual(poolSize)
      // 390 queries in a row of four take 1.4 s.
      expect(verdict.p50[0]).toBeGreaterThan(400)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("count the callers that give up, whose queries leave the pool", () =>
    Effect.gen(function*() {
      const installed = yield* readInstalled(root)
      const run = yield* measure({
        title: "impatient",
        catalog: Direct.layer,
        installed,
        connections: poolSize,
        paths: Array.replicate("/packages/effect", 100),
        rate: 1000,
        patience: 1,
        progress: Progress.none
      })
      expect(run.outcomes.map((outcome) => outcome.end)).toEqual(Array.replicate("gave up", 100))
      expect(run.server.queries).toBeLessThan(200)
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
        connections: poolSize,
        paths: Array.replicate("/packages/effect", 100_000),
        rate: 1000,
        patience: 1000,
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
  type Ends = ReadonlyArray<readonly [end: Client.Outcome["end"], hash: string, millis: number]>
  const aRun = (title: string, queries: number, ends: Ends): Run => ({
    title,
    paths: ends.map((_, i) => `/${i}`),
    outcomes: ends.map(([end, hash, millis]) => ({ end, hash, millis })),
    server: new Statistics({ effects: ends.length, queries, mostQueriesAtOnce: 3 })
  })
  const right = new Map([["/0", "a"], ["/1", "b"], ["/2", "c"], ["/3", "d"]])
  const slow = aRun("without", 100, [["answered", "a", 900], ["gave up", "", 1000], ["gave up", "", 1000], [
    "refused",
    "x",
    1
  ]])
  const fast = aRun("with", 10, [["answered", "a", 40], ["answered", "b", 50], ["answered", "c", 60], [
    "answered",
    "d",
    70
  ]])

  it("passes when all answers are right and no request failed, whatever the figures are", () => {
    expect(judge(slow, fast, right)).toMatchObject({ answered: [1, 4], queries: [100, 10], p50: [Infinity, 50] })
    expect(judge(slow, fast, right).passed).toBe(true)
    expect(judge(fast, slow, right).passed).toBe(true)
  })

  it("fails for a wrong answer in either run, and for a failed request", () => {
    const wrong = aRun("wrong", 10, [["answered", "a", 40], ["answered", "a", 40]])
    const failed = aRun("failed", 10, [["answered", "a", 40], ["failed", "", 40]])
    expect(judge(wrong, fast, right)).toMatchObject({ wrong: 1, failed: 0, passed: false })
    expect(judge(slow, wrong, right)).toMatchObject({ wrong: 1, failed: 0, passed: false })
    expect(judge(slow, failed, right)).toMatchObject({ wrong: 0, failed: 1, passed: false })
  })

  it("says what was gained, and what it cost", () => {
    expect(renderVerdict(judge(slow, fast, right))).toBe(
      "Answered in time: 4 with Funnel, 1 without: 4.0 times as many.\nQueries an answer: 40 times fewer.\n"
        + "All 5 answers are the right ones."
    )
    const faster = aRun("without", 100, fast.outcomes.map(({ end, hash }) => [end, hash, 30]))
    expect(renderVerdict(judge(faster, fast, right))).toBe(
      "Answered in time: 4 with Funnel, 4 without.\nQueries an answer: 10 times fewer.\n"
        + "The median answer comes 20 ms later: a look-up waits up to 20 ms for others to share a query.\n"
        + "All 8 answers are the right ones."
    )
    const none = aRun("without", 100, [["gave up", "", 1000], ["failed", "", 1], ["answered", "z", 2]])
    expect(renderVerdict(judge(none, none, right))).toBe(
      "Answered in time: 1 with Funnel, 1 without.\nQueries an answer: 1.0 times fewer.\n"
        + "Wrong answers: 2 of 2.\nFailed requests: 2."
    )
  })

  it("comes with a table of answers, timeouts, latencies and queries", () => {
    const table = renderTable([slow, fast])
    const row = (title: string) =>
      table.split("\n").find((line) => line.includes(`│ ${title} `))?.split("│").slice(2, -1).map((cell) => cell.trim())
    expect(row("4 requests")).toEqual(["without", "with"])
    expect(row("answered in time")).toEqual(["1 (25.0 %)", "4 (100 %)"])
    expect(row("timeouts, after 1 s")).toEqual(["2", "0"])
    expect(row("refused, at once")).toEqual(["1", "0"])
    expect(row("p50")).toEqual(["no answer", "50 ms"])
    expect(row("p99")).toEqual(["no answer", "70 ms"])
    expect(row("SQL queries")).toEqual(["100", "10"])
    expect(row("queries an answer")).toEqual(["100.00", "2.50"])
  })
})

describe("the command line", () => {
  const run = Command.runWith(command, { version: "0.1.0", renderErrors: false })

  it.effect.each([
    ["--requests", "0", "Expected a whole number from 1 to 1,000,000, got 0"],
    ["--requests", "-1", "Expected a whole number from 1 to 1,000,000, got -1"],
    ["--requests", "1000001", "Expected a whole number from 1 to 1,000,000, got 1000001"],
    ["--rate", "0", "Expected a whole number from 1 to 1,000,000, got 0"],
    ["--rate", "1.5", "Expected an integer"],
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
