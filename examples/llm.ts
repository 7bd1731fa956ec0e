/**
 * A client of a language model that takes 8,000 tokens a second and answers 429 beyond. How many tokens an answer takes is known
 * when it is there: until then a prompt counts as the 1,000 tokens that it may take at most. With `settle` the rest is given
 * back at the end, so more prompts fit into the quota, and none is refused.
 *
 * Recorded, for 30 prompts of 200 to 600 tokens: 4.7 s without `settle`, 1.8 s with it. Without a limit the model refuses 9.
 *
 * `npm run example -- llm` prints:
 *
 *     all at once:   … answered, … refused, in … s
 *     1,000 each:    30 answered, 0 refused, in … s
 *     with settle:   30 answered, 0 refused, in … s
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Array, Clock, Console, Duration, Effect, Exit, Schema } from "effect"
import { Scheduler } from "effect-funnel"
import {
  HttpBody,
  HttpClient,
  HttpClientResponse,
  HttpRouter,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import { serve } from "./support/serve.ts"

// The model. It refuses a prompt if the tokens of the last second are spent.
const Prompt = Schema.Struct({ prompt: Schema.String, max_tokens: Schema.Int })
let spent: ReadonlyArray<{ readonly at: number; readonly tokens: number }> = []
const Model = HttpRouter.add(
  "POST",
  "/complete",
  Effect.gen(function*() {
    const { max_tokens, prompt } = yield* HttpServerRequest.schemaBodyJson(Prompt)
    const now = yield* Clock.currentTimeMillis
    spent = spent.filter(({ at }) => at > now - 1000)
    if (spent.reduce((sum, { tokens }) => sum + tokens, 0) >= 8000) return HttpServerResponse.empty({ status: 429 })
    const used = Math.min(max_tokens, prompt.length * 200)
    spent = [...spent, { at: now, tokens: used }]
    yield* Effect.sleep("50 millis")
    return HttpServerResponse.jsonUnsafe({ text: prompt.toUpperCase(), used })
  })
)

// The client: 6,000 tokens a second in bursts of 2,000 are at most 8,000 in any second.
class Quota extends Scheduler.Service<Quota>()("app/Quota", {
  concurrency: 8,
  rate: [
    { limit: 50, window: "1 second", burst: 10 }, // requests
    { limit: 6000, window: "1 second", burst: 2000 } // tokens
  ]
}) {}

const most = 1000
const Answer = Schema.Struct({ text: Schema.String, used: Schema.Int })
const complete = (url: string, prompt: string) =>
  HttpClient.post(`${url}/complete`, { body: HttpBody.jsonUnsafe({ prompt, max_tokens: most }) }).pipe(
    Effect.flatMap(HttpClientResponse.filterStatusOk),
    Effect.flatMap(HttpClientResponse.schemaBodyJson(Answer))
  )
type Complete = ReturnType<typeof complete>

const prompts = Array.makeBy(30, (n) => ["a", "of", "why"][n % 3]!)

const run = Effect.fnUntraced(function*<E, R>(
  title: string,
  limited: (answer: Complete) => Effect.Effect<unknown, E, R>
) {
  const url = yield* serve(Model)
  spent = []
  const [took, answers] = yield* Effect.timed(
    Effect.forEach(prompts, (prompt) => Effect.exit(limited(complete(url, prompt))), { concurrency: "unbounded" })
  )
  const answered = answers.filter(Exit.isSuccess).length
  const seconds = Duration.toSeconds(took).toFixed(1)
  yield* Console.log(`${title} ${answered} answered, ${answers.length - answered} refused, in ${seconds} s`)
})

const program = Effect.gen(function*() {
  yield* run("all at once:  ", (answer) => answer)
  yield* run("1,000 each:   ", (answer) => Quota.schedule(answer, { tokens: [1, most] })).pipe(
    Effect.provide(Quota.layer)
  )
  yield* run(
    "with settle:  ",
    (answer) => Quota.schedule(answer, { tokens: [1, most], settle: ({ used }) => [1, used] })
  ).pipe(Effect.provide(Quota.layer))
})

await Effect.runPromise(program.pipe(Effect.provide(NodeHttpClient.layerUndici), Effect.scoped))
