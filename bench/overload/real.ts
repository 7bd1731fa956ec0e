/** The main scenarios on a real HTTP server in another process, by the real clock. */
import { NodeHttpClient } from "@effect/platform-node"
import { Effect, ManagedRuntime } from "effect"
import { HttpClient, type HttpClientResponse } from "effect/http"
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { type Backend, width } from "./callers.ts"
import { costs } from "./cost.ts"
import type { Send } from "./penalty.ts"
import * as Protectors from "./protectors.ts"
import { goodput, type Measured, penalty, tenants } from "./scenarios.ts"
import { dice } from "./world.ts"

const meanRun = 40
/** How long a load lasts, and how long the capacity is measured. */
const seconds = 5
const calibration = 3000
const silenceAt = 2000
const silence = 1000

const { funnel, maxWait, pLimit, pQueue, semaphore, share, shed, shedAndMaxWait } = Protectors

/** Requests a second that are answered while each worker always has one. */
const measure = async (work: Backend["work"], run: Backend["run"]): Promise<number> => {
  const { exponential } = dice(1)
  let answered = 0
  const until = performance.now() + calibration
  const worker = Effect.whileLoop({
    while: () => performance.now() < until,
    body: () => Effect.suspend(() => work(exponential(meanRun))),
    step: () => void answered++
  })
  await run(Effect.all(Array.from({ length: width }, () => worker), { concurrency: "unbounded" }), { promises: false })
  return answered * 1000 / calibration
}

/** Starts the server, and ends it after `use`. */
const withServer = async <A>(use: (url: string) => Promise<A>): Promise<A> => {
  const server = fork(fileURLToPath(new URL("real/server.ts", import.meta.url)))
  try {
    const port = await new Promise((resolve, reject) => server.once("message", resolve).once("exit", reject))
    return await use(`http://127.0.0.1:${port}`)
  } finally {
    server.kill()
  }
}

export const real = (seed: number, report: (measured: Measured) => void): Promise<ReadonlyArray<Measured>> =>
  withServer(async (url) => {
    const runtime = ManagedRuntime.make(NodeHttpClient.layerUndici)
    const client = await runtime.runPromise(HttpClient.HttpClient)
    const get = (path: string) =>
      Effect.orDie(
        Effect.tap(client.get(`${url}${path}`), (response: HttpClientResponse.HttpClientResponse) => response.text)
      )
    const work = (takes: number) => get(`/work?takes=${takes}`)
    const run: Backend["run"] = (program) => runtime.runPromise(program)
    // The first requests are those of cold processes.
    await measure(work, run)
    const backend: Backend = { meanRun, capacity: await measure(work, run), work, run }
    const asked = (load: number, protectors: ReadonlyArray<Protectors.Protector>) =>
      goodput({ backend, load, seconds, protectors }, seed)
    const quiet = () => Effect.runPromise(Effect.sleep("1 second"))

    const scenarios = [
      {
        title: "2 × the capacity, callers give up after 1 s",
        measure: () => asked(2, [pLimit, pQueue, semaphore, funnel, maxWait, shed, shedAndMaxWait])
      },
      {
        title: "10 × the capacity, callers give up after 1 s",
        measure: () => asked(10, [pLimit, funnel, shed, shedAndMaxWait])
      },
      {
        title: `One tenant brings ${
          tenantJobs(backend).toLocaleString("en-US")
        } jobs at once, nine others bring four a second each`,
        measure: () => tenants([pQueue, funnel, share], seed, { backend, jobs: tenantJobs(backend), seconds, pace: 4 })
      },
      {
        title: "The server asks for a second of silence, and callers give up after half a second",
        measure: () => penalty(seed, { ...backend, meanRun: 10 }, () => silenced(get, work))
      },
      {
        title: "CPU of the main thread for a job of a scheduler in which 1,000 wait",
        measure: async () =>
          (await costs()).map(({ micros, more, name }) => ({
            scheduler: name,
            "CPU a job": `${micros.toFixed(1)} µs`,
            more: `${(100 * more).toFixed(0)} %`
          }))
      }
    ]
    const measured: Array<Measured> = []
    for (const { measure, title } of scenarios) {
      measured.push({ title, rows: await measure() })
      report(measured.at(-1)!)
      await quiet()
    }
    await runtime.dispose()
    return measured
  })

/** As many as take all the time that is observed. */
const tenantJobs = ({ capacity }: Backend) => Math.round(capacity * seconds / 100) * 100

type Get = (path: string) => Effect.Effect<HttpClientResponse.HttpClientResponse>

/** The server is told once to ask for silence; from then on its answers say so. */
const silenced = (get: Get, work: (takes: number) => ReturnType<Get>): Send => {
  let told = false
  return (at, takes) =>
    Effect.gen(function*() {
      if (!told && at >= silenceAt) {
        told = true
        yield* get(`/silence?for=${silence}`)
      }
      const { headers, status } = yield* work(takes)
      return status === 429 ? Number(headers["retry-after"]) * 1000 : 0
    })
}
