/**
 * Schedulers of keys in two processes over one store: keys are dropped and made again while their commands are on their way.
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, type Fiber, Layer, Logger, Scope } from "effect"
import { Scheduler } from "effect-funnel"
import * as Stores from "effect-funnel/stores"
import { GcraStoreModel } from "../support/gcraStoreModel.js"
import { ManualClock } from "../support/manualClock.js"
import { PermitStoreModel } from "../support/permitStoreModel.js"
import { random } from "../support/random.js"

class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}

const keys = ["a", "b", "c"] as const

/** A turn of the event loop. */
const turn = () => new Promise((resolve) => setImmediate(resolve))

const simulate = async (seed: number) => {
  const next = random(seed)
  const clock = new ManualClock()
  const context = Effect.runSync(
    Effect.provideContext(Effect.provide(Effect.context<never>(), Logger.layer([])), clock.context)
  )
  const run = Effect.runForkWith(context)
  const travel = next(3) * 6
  const lease = next(2) === 0 ? 10_000 : 400
  const policy = next(2) === 0 ? "fail" : "local"
  const lossy = next(3) === 0
  // Where no command fails, a process gives back what it has at once, also when it closes in the middle.
  const fails = lossy || next(2) === 0
  const closes = !fails && next(2) === 0
  const concurrency = 1 + next(3)
  const rate = next(2) === 0 ? undefined : { limit: 100, window: "1 second", burst: 2 } as const
  const models = new Map(keys.map((key) => [key as string, new PermitStoreModel(clock, lease)]))
  const rates = new GcraStoreModel(clock)
  const all = [rates, ...models.values()]
  for (const model of all) model.answerMillis = travel
  const lost = new Stores.StoreError({ operation: "test", cause: "the answer is lost" })
  const answer = <A>(command: Effect.Effect<A, Stores.StoreError>) =>
    Effect.flatMap(command, (answer) => lossy && next(6) === 0 ? Effect.fail(lost) : Effect.succeed(answer))
  let made = 0
  let open = 0

  const start = async () => {
    const scope = Scope.makeUnsafe()
    const nodes = new Set<string>()
    const stores: Stores.SchedulerStores = {
      permits: (key, onWake) => {
        open++
        const node = `node${made++}`
        nodes.add(node)
        const store = models.get(key!)!.of(node, () => setImmediate(onWake))
        return {
          ...store,
          acquire: (...args) => answer(store.acquire(...args)),
          renew: (...args) => answer(store.renew(...args)),
          release: (...args) => answer(store.release(...args)),
          close: () => void open--
        }
      },
      rates: (key, cells) => {
        const store = rates.of(cells)
        return {
          take: (_, ...rest) => store.take(key!, ...rest),
          giveBack: (_, ...rest) => store.giveBack(key!, ...rest),
          penalize: (_, ...rest) => store.penalize(key!, ...rest),
          reset: () => store.reset(key!)
        }
      }
    }
    const layer = Stores.layerKeyedScheduler(Hosts, Effect.succeed(stores), {
      lookup: () => ({ concurrency, rate }),
      onStoreError: policy,
      outageBudget: next(2) * 100,
      storeTimeout: 300,
      expectedProcesses: 2
    })
    const built = await Effect.runPromiseWith(context)(Layer.buildWithScope(layer, scope))
    return { hosts: Context.get(built, Hosts), nodes, scope }
  }
  const processes = [await start(), await start()] as const
  const [first, second] = processes

  const running = new Map<string, number>()
  const problems: Array<string> = []
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  const submit = () => {
    const key = keys[next(3)]!
    const millis = next(4) === 0 ? 0 : next(120)
    const job = Effect.suspend(() => {
      const beside = running.get(key) ?? 0
      running.set(key, beside + 1)
      // A lease that ends, and a store that is away, let more run than the limit, as the docs say.
      if (!lossy && lease === 10_000 && policy === "fail" && beside >= concurrency) {
        problems.push(`S1 ${beside + 1} jobs of ${concurrency}`)
      }
      return Effect.onExit(
        millis === 0 ? Effect.void : Effect.sleep(millis),
        () => Effect.sync(() => void running.set(key, running.get(key)! - 1))
      )
    })
    fibers.push(run(Effect.exit(processes[next(2)]!.hosts.get(key).schedule(job))))
  }
  const step = async (millis: number) => {
    clock.advance(millis)
    await turn()
  }
  for (let i = 0; i < 60; i++) {
    const what = next(12)
    if (what < 5) submit()
    else if (what === 5) fibers[next(fibers.length + 1)]?.interruptUnsafe()
    else if (what === 6 && next(3) === 0) run(Effect.exit(second.hosts.get("a").penalize({ for: 1 + next(50) })))
    else if (what === 7 && fails && next(4) === 0) { for (const model of all) model.away = !model.away }
    await step(what === 8 ? next(3000) : what > 8 ? next(60) : 0)
  }
  for (const model of all) model.away = false
  if (closes) {
    const closed = run(Scope.close(first.scope, Exit.void))
    for (let i = 0; i < 40; i++) await step(5)
    expect(closed.pollUnsafe()?._tag, "it closes").toBe("Success")
    const left = Array.from(models.values(), ({ held, waiting }) => [
      ...Array.from(held.keys(), (id) => id.split(".")[0]!),
      ...waiting.map(({ node }) => node)
    ]).flat()
    expect(left.filter((node) => first.nodes.has(node)), "a process that has closed holds nothing").toEqual([])
  }
  const waits = () => fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
  for (let i = 0; i < 100 && waits() > 0; i++) await step(300)
  expect(problems.join("; ")).toBe("")
  expect(waits(), "jobs that hang").toBe(0)
  for (let i = 0; i < 10; i++) await step(10)
  const here = Array.from(models.values(), ({ held, waiting }) => held.size + waiting.length)
  if (!fails) expect(here, "nothing is left to its lease").toEqual([0, 0, 0])
  for (let i = 0; i < 30; i++) await step(1000)
  if (!closes) expect(await Effect.runPromise(first.hosts.size)).toBe(0)
  expect([await Effect.runPromise(second.hosts.size), open, clock.pending], "keys, wake-ups and timers").toEqual([
    0,
    0,
    0
  ])
  for (const model of models.values()) {
    model.expire()
    expect([model.held.size, model.waiting.length], "nothing is held or waited for").toEqual([0, 0])
  }
  for (const { scope } of processes) run(Scope.close(scope, Exit.void))
  return made
}

describe("schedulers of keys over a store", () => {
  it("S1 and S3 hold for keys that come and go; nobody hangs, and nothing is left, though answers are lost", async () => {
    let made = 0
    for (let seed = 1; seed <= 200; seed++) {
      made += await simulate(seed).catch((error) => {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error })
      })
    }
    // More than each key once in each process.
    expect(made).toBeGreaterThan(2 * 200 * 2 * keys.length)
  })
})
