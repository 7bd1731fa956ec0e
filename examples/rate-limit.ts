/**
 * Sends prompts to a model that limits requests, a second and a minute, and tokens. A prompt that exceeds the quota fails at
 * once. If the model still answers "slow down", all callers wait for the time it asks for, and the prompt is sent again.
 *
 *     npm run example -- rate-limit
 *
 * prints:
 *
 *     haiku (400 tokens): answered after … ms
 *     sonnet (100 tokens): answered after … ms
 *     novel (50000 tokens): 50000 tokens exceed the burst of 500
 *     the model wants … to breathe
 *     limerick (300 tokens): answered after … ms
 *     ballad (200 tokens): answered after … ms
 *     4 answers from 5 requests
 */
import { Console, Data, Duration, Effect } from "effect"
import { RateLimiter } from "effect-funnel"

class Requests extends RateLimiter.Service<Requests>()("example/Requests", [
  { limit: 10, window: "1 second" },
  { limit: 300, window: "1 minute", burst: 100 }
]) {}

class Tokens extends RateLimiter.Service<Tokens>()("example/Tokens", { limit: 1000, window: "1 second", burst: 500 }) {}

class TooManyRequests extends Data.TaggedError("TooManyRequests")<{ readonly retryAfter: Duration.Duration }> {}

interface Prompt {
  readonly name: string
  readonly tokens: number
}

/** A fake model: it refuses its third request. */
let requests = 0
const complete = (prompt: Prompt) =>
  Effect.suspend(() =>
    ++requests === 3
      ? Effect.fail(new TooManyRequests({ retryAfter: Duration.millis(300) }))
      : Effect.succeed(`an answer to ${prompt.name}`)
  )

const ask = (prompt: Prompt) =>
  complete(prompt).pipe(
    Requests.withLimit,
    Tokens.withLimit({ tokens: prompt.tokens }),
    Effect.tapErrorTag("TooManyRequests", ({ retryAfter }) =>
      Effect.andThen(
        Console.log(`the model wants ${Duration.format(retryAfter)} to breathe`),
        Requests.penalize({ for: retryAfter })
      )),
    Effect.retry({ times: 3, while: (error) => error._tag === "TooManyRequests" })
  )

const program = Effect.gen(function*() {
  const prompts = [
    { name: "haiku", tokens: 400 },
    { name: "sonnet", tokens: 100 },
    { name: "novel", tokens: 50_000 },
    { name: "limerick", tokens: 300 },
    { name: "ballad", tokens: 200 }
  ]
  let answers = 0
  for (const prompt of prompts) {
    const outcome = yield* Effect.timed(ask(prompt)).pipe(
      Effect.map(([took]) => {
        answers++
        return `answered after ${Duration.toMillis(took).toFixed(0)} ms`
      }),
      Effect.catchReason("RateLimiterError", "InsufficientCapacity", (reason) => Effect.succeed(reason.message))
    )
    yield* Console.log(`${prompt.name} (${prompt.tokens} tokens): ${outcome}`)
  }
  yield* Console.log(`${answers} answers from ${requests} requests`)
})

await Effect.runPromise(Effect.provide(program, [Requests.layer, Tokens.layer]))
