/**
 * Resizes the pictures of an archive, four at once, and stores each as soon as it is ready. The archive is a stream, which is
 * read only as fast as the pictures are stored. A progress bar is redrawn at most every 0.1 s. One picture is damaged: it is
 * reported, and the run goes on.
 *
 *     npm run example -- stream-progress
 *
 * prints:
 *
 *     59 stored, damaged: picture 41
 */
import cliProgress from "cli-progress"
import { Console, Data, Duration, Effect, Exit, Stream } from "effect"
import { Scheduler } from "effect-funnel"

class Damaged extends Data.TaggedError("Damaged")<{ readonly picture: number }> {}

const count = 60

/** A fake archive. */
const archive = Stream.range(1, count).pipe(Stream.rechunk(8))

/** Fake work: 5 to 50 ms a picture. */
const resize = (picture: number) =>
  Effect.andThen(
    Effect.sleep((picture * 7) % 46 + 5),
    picture === 41 ? Effect.fail(new Damaged({ picture })) : Effect.succeed({ picture, bytes: 1000 * picture })
  )

const bar = Effect.acquireRelease(
  Effect.sync(() => {
    const drawn = new cliProgress.SingleBar({
      format: "{bar} {value}/{total}  {rate}/s  {left} left",
      fps: 10,
      gracefulExit: false
    })
    drawn.start(count, 0, { rate: 0, left: "?" })
    return drawn
  }),
  (drawn) => Effect.sync(() => drawn.stop())
)

const program = Effect.gen(function*() {
  const stored: Array<number> = []
  const damaged: Array<number> = []

  const drawn = yield* bar
  yield* Scheduler.stream(archive, (picture) => Effect.exit(resize(picture)), {
    total: count,
    onProgress: ({ done, eta, rate }) =>
      drawn.update(done, { rate: rate.toFixed(0), left: eta === undefined ? "?" : Duration.format(eta) })
  }).pipe(
    Stream.runForEach((exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) stored.push(exit.value.picture)
        else for (const reason of exit.cause.reasons) if (reason._tag === "Fail") damaged.push(reason.error.picture)
      })
    )
  )
  yield* Console.log(`${stored.length} stored, damaged: picture ${damaged.join(", ")}`)
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Scheduler.layer({ concurrency: 4 }))))
