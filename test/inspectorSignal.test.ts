import { assert, it } from "@effect/vitest"
import { Console, Deferred, Effect, Layer } from "effect"
import { Scheduler } from "effect-funnel"
import * as Inspector from "effect-funnel/Inspector"
import process from "node:process"

class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 2 }) {}

it.live("a signal prints the dump until the scope closes", () =>
  Effect.gen(function*() {
    const printed = yield* Deferred.make<unknown>()
    const console = {
      ...globalThis.console,
      error: (text: unknown) => Deferred.doneUnsafe(printed, Effect.succeed(text))
    }
    const listeners = process.listenerCount("SIGUSR2")
    yield* Effect.gen(function*() {
      process.kill(process.pid, "SIGUSR2")
      assert.include(String(yield* Deferred.await(printed)), "Scheduler app/GitHub: 0 running")
    }).pipe(
      Effect.provide(Layer.merge(GitHub.layer, Inspector.onSignal()).pipe(Layer.provide(Inspector.layer()))),
      Effect.provideService(Console.Console, console)
    )
    assert.strictEqual(process.listenerCount("SIGUSR2"), listeners)
  }))
