/**
 * A worker that takes jobs from a queue over HTTP and does four at once, until SIGTERM. If it just ends then, the jobs that it
 * has taken are lost. With the option `drain` it takes no more, ends the jobs it has, tells the queue, and exits.
 *
 * The program serves the queue, and starts two workers as processes of their own. Each gets a SIGTERM while it works.
 * Recorded: 4 of 8 jobs lost without `drain`, none with it.
 *
 * `npm run example -- queue-worker` prints:
 *
 *     without drain: … jobs taken, … done, … lost
 *     with drain:    … jobs taken, … done, 0 lost
 */
import { NodeHttpClient, NodeRuntime } from "@effect/platform-node"
import { Array, Console, Effect, Latch, Schema } from "effect"
import { Scheduler } from "effect-funnel"
import { HttpClient, HttpClientResponse, HttpRouter, HttpServerResponse } from "effect/http"
import { fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { serve } from "./support/serve.ts"

// The worker: four loops, each of which takes a job and does it while it has a place.
const worker = (queue: string, drain: number) => {
  class Jobs extends Scheduler.Service<Jobs>()("app/Jobs", { concurrency: 4, drain }) {}

  const take = Effect.flatMap(
    HttpClient.post(`${queue}/take`),
    HttpClientResponse.schemaBodyJson(Schema.Struct({ id: Schema.Int }))
  )
  const work = Effect.fn("work")(function*({ id }: { readonly id: number }) {
    yield* Effect.sleep("500 millis") // such as a payment
    yield* HttpClient.post(`${queue}/done/${id}`)
  })
  const loop = Effect.flatMap(take, work).pipe(
    Jobs.schedule,
    Effect.forever,
    Effect.catchReason("SchedulerError", "Draining", () => Effect.void)
  )
  const loops = Effect.all(Array.replicate(loop, 4), { concurrency: "unbounded" })

  // The loops are no children of the program: the SIGTERM interrupts that, and the layer then drains before it closes.
  return Effect.forkDetach(loops).pipe(
    Effect.andThen(Effect.never),
    Effect.provide(Jobs.layer),
    Effect.provide(NodeHttpClient.layerUndici)
  )
}

// The queue: knows which jobs are taken, and which are done.
const run = Effect.fnUntraced(function*(title: string, drain: number) {
  const taken = new Set<number>()
  const done = new Set<number>()
  const busy = yield* Latch.make()
  const url = yield* serve(HttpRouter.addAll([
    HttpRouter.route(
      "POST",
      "/take",
      Effect.gen(function*() {
        const id = taken.size + 1
        taken.add(id)
        if (id === 8) yield* busy.open
        return HttpServerResponse.jsonUnsafe({ id })
      })
    ),
    HttpRouter.route(
      "POST",
      "/done/:id",
      Effect.map(HttpRouter.params, ({ id }) => {
        done.add(Number(id))
        return HttpServerResponse.empty()
      })
    )
  ]))
  const child = fork(fileURLToPath(import.meta.url), [url, `${drain}`])
  yield* busy.await
  yield* Effect.sleep("100 millis")
  child.kill("SIGTERM")
  yield* Effect.promise(() => once(child, "exit"))
  const lost = [...taken].filter((id) => !done.has(id))
  yield* Console.log(`${title} ${taken.size} jobs taken, ${done.size} done, ${lost.length} lost`)
})

const [queue, drain] = process.argv.slice(2)
if (queue === undefined) {
  const program = Effect.andThen(run("without drain:", 0), run("with drain:   ", 10_000))
  await Effect.runPromise(Effect.scoped(program))
} else {
  NodeRuntime.runMain(worker(queue, Number(drain)))
}
