/**
 * The callers: they send the same requests in the same order at the same times in every run, over real connections, and give
 * up after a second.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Duration, Effect, Random, Stream } from "effect"
import type { Array, Layer } from "effect"
import { Scheduler } from "effect-funnel"
import { HttpClient } from "effect/http"
import { createHash } from "node:crypto"
import type { Progress } from "./progress.ts"

export interface Outcome {
  readonly end: "answered" | "refused" | "gave up" | "failed"
  /** SHA-256 of the status and the body of an answer. */
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

const get = Effect.fnUntraced(function*(client: HttpClient.HttpClient, url: string, patience: number) {
  const [duration, outcome] = yield* client.get(url).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => ({ status: response.status, text }))),
    Effect.map(({ status, text }): Pick<Outcome, "end" | "hash"> => ({
      end: status === 200 ? "answered" : status === 503 ? "refused" : "failed",
      hash: createHash("sha256").update(`${status}\n${text}`).digest("hex")
    })),
    Effect.catchTag("HttpClientError", () => Effect.succeed({ end: "failed", hash: "" } as const)),
    // The interruption closes the connection: the server notices that its caller has gone.
    Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed({ end: "gave up", hash: "" } as const) }),
    Effect.timed
  )
  return { ...outcome, millis: Duration.toMillis(duration) }
})

/** Sends so many a second, whether the earlier ones have been answered or not, and returns the outcomes in order. */
export const send = Effect.fn("send")(function*(options: {
  readonly urls: ReadonlyArray<string>
  readonly rate: number
  /** How long a caller waits for its answer, in milliseconds. */
  readonly patience: number
  readonly progress: Progress
}) {
  const client = yield* HttpClient.HttpClient
  const scheduler = yield* Scheduler.make({
    concurrency: "unbounded",
    rate: { limit: options.rate, window: "1 second", burst: Math.min(options.rate, 10) }
  })
  return yield* scheduler.forEach(options.urls, (url) => get(client, url, options.patience), {
    onProgress: options.progress.update
  })
}, Effect.scoped)

/** Sends the same requests again and again, until it is interrupted; gives the outcomes as they come. */
export const load = (options: {
  readonly urls: ReadonlyArray<string>
  readonly rate: number
  readonly patience: number
}): Stream.Stream<Outcome, never, HttpClient.HttpClient> =>
  Stream.unwrap(Effect.gen(function*() {
    const client = yield* HttpClient.HttpClient
    const scheduler = yield* Scheduler.make({
      concurrency: "unbounded",
      rate: { limit: options.rate, window: "1 second", burst: Math.min(options.rate, 10) }
    })
    const again = function*() {
      while (true) yield* options.urls
    }
    return scheduler.stream(again(), (url) => get(client, url, options.patience))
  })).pipe(Stream.orDie)

/** As many connections as there are callers. */
export const layerHttp: Layer.Layer<HttpClient.HttpClient> = NodeHttpClient.layerUndiciOptions({ connections: null })
