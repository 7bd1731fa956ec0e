import { fileURLToPath } from "node:url"
import ts from "typescript"
import { describe, expect, it } from "vitest"

const file = fileURLToPath(new URL("hovers.virtual.ts", import.meta.url))
const root = fileURLToPath(new URL("..", import.meta.url))

const uses = `
import * as Funnel from "effect-funnel/http"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import { Effect, Exit, Request, Stream } from "effect"
import { HttpClient } from "effect/http"

class Users extends Reducer.Service<Users>()("Users") {}
class Rate extends RateLimiter.Service<Rate>()("Rate", { limit: 1, window: "1 second" }) {}
class Api extends Scheduler.Service<Api>()("Api", { concurrency: 1 }) {}
class Hosts extends Scheduler.Keyed<Hosts>()("Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
const client = HttpClient.make(() => Effect.never)
const effect = Effect.succeed(1)
const f = (n: number) => Effect.succeed(n)
class Get extends Request.Class<{ readonly id: number }, number> {}
class GetAll extends Request.Class<{ readonly id: number }, ReadonlyArray<number>> {}
const answer = { execute: (all: ReadonlyArray<Get>) => Effect.succeed(all.map((_) => _.id)) }
const one = { id: (_: Get) => _.id, execute: (ids: ReadonlyArray<number>) => Effect.succeed(ids), resultId: (_: number) => _ }
const every = { ...one, id: (_: GetAll) => _.id }
class Numbers extends Batcher.Resolver<Numbers>()("Numbers", Batcher.ordered(Get, answer)) {}
declare const handle: Batcher.Batcher

Reducer./**/reduce("key", effect)
effect.pipe(Reducer./**/reduce("key"))
Reducer./**/fn("f")(f)
Reducer./**/fn("f", { key: (n: number) => n })(f)
Reducer./**/forget("key")
Users./**/reduce("key", effect)
Users./**/inFlight
Scheduler./**/schedule(effect)
effect.pipe(Scheduler./**/schedule({ weight: 1 }))
Api./**/schedule(effect)
Api./**/resize(2)
Api./**/setRate({ limit: 1, window: 1 })
Api./**/pause
Api./**/awaitIdle
Api./**/stats
Api./**/layer
Api./**/layerNoop
Api./**/forEach([1], f)
Api./**/all([effect])
Api./**/stream([1], f)
Stream.make(1).pipe(Api./**/mapEffect(f))
Api./**/firstSuccess([effect])
Hosts./**/schedule("a", effect)
Hosts./**/get("a")
Hosts./**/size
Hosts./**/layer
RateLimiter./**/withLimit(effect)
Rate./**/consume()
Rate./**/withLimit(effect)
Rate./**/penalize({ for: 1 })
Rate./**/reset()
Rate./**/layer
Funnel./**/schedule(client, Api)
client.pipe(Funnel./**/schedule(Api))
client.pipe(Funnel./**/penalize(Rate))
Batcher./**/fn("f")(one.execute, one)
Batcher./**/findById(Get, { ...one, missing: () => Exit.succeed(0) })
Batcher./**/ordered(Get, answer)
Batcher./**/grouped(GetAll, every)
Batcher./**/loadMany([new Get({ id: 1 })], Numbers)
Batcher./**/loadManyExit([new Get({ id: 1 })], Numbers)
Batcher./**/layer()
Batcher./**/layerNoop
handle./**/findById(Get, { ...one, missing: () => Exit.succeed(0) })
handle./**/fn("f")(one.execute, one)
handle./**/ordered(Get, answer)
handle./**/grouped(GetAll, every)
Numbers./**/layer
Numbers./**/layerNoop
`

describe("An editor", () => {
  it(
    "shows what an operation does wherever it is called: from the module, from a tag of one's own, in each spelling",
    () => {
      const config = ts.getParsedCommandLineOfConfigFile(`${root}/tsconfig.json`, {}, {
        ...ts.sys,
        onUnRecoverableConfigFileDiagnostic: () => {}
      })!
      const read = (name: string) => name === file ? uses : ts.sys.readFile(name)
      const service = ts.createLanguageService({
        ...ts.sys,
        useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
        getCompilationSettings: () => config.options,
        getCurrentDirectory: () => root,
        getDefaultLibFileName: ts.getDefaultLibFilePath,
        getScriptFileNames: () => [file],
        getScriptVersion: () => "1",
        getScriptSnapshot: (name) => {
          const text = read(name)
          return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
        },
        readFile: read,
        fileExists: (name) => name === file || ts.sys.fileExists(name)
      })
      expect(service.getSemanticDiagnostics(file).map((_) => ts.flattenDiagnosticMessageText(_.messageText, "\n")))
        .toEqual([])
      const hovers = Array.from(uses.matchAll(/(\S*)\/\*\*\/(\w+)/g), (use) => {
        const info = service.getQuickInfoAtPosition(file, use.index + use[0].length - 1)
        return [`${use[1]}${use[2]}`, ts.displayPartsToString(info?.documentation).split("\n")[0]]
      })
      expect(hovers).toHaveLength(49)
      expect(hovers.filter(([, docs]) => docs === "")).toEqual([])
      // The compiler reads the whole library.
    },
    60_000
  )
})
