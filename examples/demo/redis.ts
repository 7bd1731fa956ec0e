/**
 * The Redis that the processes share: one that is there already, or one of the demo's own.
 */
import { NodeRedis } from "@effect/platform-node"
import { Data, Effect, FileSystem, Layer, Logger, Schedule } from "effect"
import { Redis } from "effect/persistence"
import { spawn } from "node:child_process"
import { createServer } from "node:net"

/** The reason why there is no Redis, and the remedy. */
export class NoRedis extends Data.TaggedError("NoRedis")<{ readonly message: string }> {}

const ping = (url: string) =>
  Redis.Redis.use((redis) => redis.send("PING")).pipe(
    Effect.timeout("2 seconds"),
    Effect.provide(Layer.fresh(NodeRedis.layer({ url, disableOfflineQueue: true }))),
    // The error already says what the client logs about a failed attempt.
    Effect.provide(Logger.layer([]))
  )

/** A Redis at an address that was given. */
export const given = (url: string): Effect.Effect<string, NoRedis> =>
  ping(url).pipe(
    Effect.as(url),
    Effect.catchCause(() => Effect.fail(new NoRedis({ message: `No Redis answers at ${url}.` })))
  )

const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Starts a `redis-server` on a free port of the loopback, in a temporary directory, until the scope closes. */
export const started = Effect.gen(function*() {
  const directory = yield* FileSystem.FileSystem.use((fs) =>
    fs.makeTempDirectoryScoped({ prefix: "effect-funnel-demo-" })
  )
  const port = yield* freePort
  const options = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
  yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof spawn>, NoRedis>((resume) => {
      const server = spawn("redis-server", [...options, "--maxmemory-policy", "noeviction"], { stdio: "ignore" })
      server.once("spawn", () => resume(Effect.succeed(server)))
      server.once("error", () =>
        resume(Effect.fail(
          new NoRedis({
            message:
              "redis-server is not installed. Install it (apt-get install redis-server, brew install redis), or give one:\n"
              + "  npm run demo -- --processes 4 --redis redis://localhost:6379"
          })
        )))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        if (server.exitCode !== null) return resume(Effect.void)
        server.once("exit", () => resume(Effect.void))
        server.kill()
      })
  )
  const url = `redis://127.0.0.1:${port}`
  return yield* ping(url).pipe(
    Effect.retry(Schedule.max([Schedule.spaced("50 millis"), Schedule.recurs(100)])),
    Effect.as(url),
    Effect.catchCause(() =>
      Effect.fail(new NoRedis({ message: `The redis-server that was started on port ${port} does not answer.` }))
    )
  )
})
