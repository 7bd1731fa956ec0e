import { fileURLToPath } from "node:url"
import ts from "typescript"
import { describe, expect, it } from "vitest"

const file = fileURLToPath(new URL("hovers.virtual.ts", import.meta.url))
const root = fileURLToPath(new URL("..", import.meta.url))

const uses = `
import * as Funnel from "effect-funnel/http"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import { Effect, Stream } from "effect"
import { HttpClient } from "effect/http"

class Users extends Reducer.Service<Users>()("Users") {}
class Rate extends RateLimiter.Service<Rate>()("Rate", { limit: 1, window: "1 second" }) {}
class Api extends Scheduler.Service<Api>()("Api", { concurrency: 1 }) {}
class Hosts extends Scheduler.Keyed<Hosts>()("Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
const client = HttpClient.make(() => Effect.never)
const effect = Effect.succeed(1)
const f = (n: number) => Effect.succeed(n)

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
Hosts./**/forEach("a", [1], f)
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
`

describe("An editor", () => {
  it("shows what an operation does wherever it is called: from the module, from a tag of one's own, in each spelling", () => {
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
    expect(hovers).toHaveLength(36)
    expect(hovers.filter(([, docs]) => docs === "")).toEqual([])
  })
})
