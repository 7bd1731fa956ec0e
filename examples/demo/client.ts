/**
 * The client: the same requests in the same order for every run, over real connections, within limits of its own.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Duration, Effect, Random } from "effect"
import type { Array, Layer } from "effect"
import { Scheduler } from "effect-funnel"
import { HttpClient } from "effect/http"
import { createHash } from "node:crypto"
import type { Progress } from "./progress.ts"

export interface Limits {
  /** The most requests at once. */
  readonly concurrency: number
  /** The most requests started in a second. */
  readonly rate: number
}

export interface Outcome {
  /** 0 when there was no response at all. */
  readonly status: number
  /** SHA-256 of the status and the body. */
  readonly hash: string
  readonly millis: number
}

/**
 * Draws request paths, half of them for a package and half for its authors. Few packages are asked for often and most
 * of them seldom: the n-th most wanted 1/n as often as the first (Zipf's law). The seed decides which packages these are.
 */
export const draw = (
  names: Array.NonEmptyReadonlyArray<string>,
  options: { readonly requests: number; readonly seed: number }
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const ranked = yield* Random.shuffle(names)
    const sums: Array<number> = []
    let total = 0
    for (let rank = 1; rank <= ranked.length; rank++) {
      sums.push(total += 1 / rank)
    }
    const paths: Array<string> = []
    for (let i = 0; i < options.requests; i++) {
      const point = (yield* Random.next) * total
      const name = ranked[sums.findIndex((sum) => point < sum)] ?? names[0]
      const path = `/packages/${encodeURIComponent(name)}`
      paths.push((yield* Random.nextBoolean) ? `${path}/authors` : path)
    }
    return paths
  }).pipe(Random.withSeed(options.seed))

const get = Effect.fnUntraced(function*(client: HttpClient.HttpClient, url: string) {
  const [duration, { body, status }] = yield* client.get(url).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => ({ status: response.status, body: text }))),
    Effect.catchTag("HttpClientError", (error) => Effect.succeed({ status: 0, body: error.message })),
    Effect.timed
  )
  const hash = createHash("sha256").update(`${status}\n${body}`).digest("hex")
  return { status, hash, millis: Duration.toMillis(duration) }
})

/**
 * Sends them all and returns the outcomes in order. The latency is measured from the start of a request; the time it
 * waited for its turn in the client's own queue is not in it.
 */
export const send = Effect.fn("send")(function*(options: {
  readonly url: string
  readonly paths: ReadonlyArray<string>
  readonly limits: Limits
  readonly progress: Progress
}) {
  const client = yield* HttpClient.HttpClient
  const scheduler = yield* Scheduler.make({
    concurrency: options.limits.concurrency,
    rate: { limit: options.limits.rate, window: "1 second" }
  })
  return yield* scheduler.forEach(options.paths, (path) => get(client, options.url + path), {
    onProgress: options.progress.update
  })
}, Effect.scoped)

/** As many connections as there may be requests. */
export const layerHttp = (limits: Limits): Layer.Layer<HttpClient.HttpClient> =>
  NodeHttpClient.layerUndiciOptions({ connections: limits.concurrency })
