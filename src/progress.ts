/**
 * A progress bar for `onProgress`, drawn by [cli-progress](https://www.npmjs.com/package/cli-progress), an optional peer:
 * `npm install cli-progress`. It needs Node.
 *
 * @since 0.1.0
 */
import cliProgress from "cli-progress"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Progress } from "./Scheduler.js"

/** How often a line is written where there is no terminal and the total is not known, in seconds. */
const secondsPerLine = 5

/** How the progress of a call is shown. */
interface Drawing {
  readonly update: (progress: Progress) => void
  readonly stop: () => void
}

/**
 * Shows the progress of one call on the standard error, until the scope closes: a bar on a terminal, and plain lines elsewhere.
 *
 * **Details**
 *
 * The result is an `onProgress` for one call of `forEach`, `all`, `stream` or `mapEffect` of a scheduler. The lines come at each
 * quarter of the way or, without a total, every 5 seconds. The standard output is left to the program. When the scope closes,
 * also by an interruption, the bar stays as it is and the cursor is back.
 *
 * **Example** (Drawing a bar)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Progress from "effect-funnel/progress"
 *
 * const squares = Effect.scoped(Effect.gen(function*() {
 *   const onProgress = yield* Progress.bar("squares")
 *   return yield* Scheduler.forEach([1, 2, 3], (n) => Effect.succeed(n * n), { onProgress })
 * }))
 *
 * await Effect.runPromise(Effect.provide(squares, Scheduler.layer({ concurrency: 2 }))) // => [1, 4, 9]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const bar = (title = "progress"): Effect.Effect<(progress: Progress) => void, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync((): { drawing?: Drawing } => ({ drawing: process.stderr.isTTY ? drawn(title) : lines(title) })),
      (shown) =>
        Effect.sync(() => {
          shown.drawing?.stop()
          // A call that lasts longer than the scope would begin a bar that nobody stops.
          delete shown.drawing
        })
    ),
    (shown) => (progress) => shown.drawing?.update(progress)
  )

const drawn = (title: string): Drawing => {
  let self: cliProgress.SingleBar | undefined
  return {
    update: ({ done, eta, failed, rate, total }) => {
      // Finer it would be longer than the line, and another one each time.
      const seconds = eta === undefined ? 0 : Math.ceil(Duration.toSeconds(eta))
      const left = seconds === 0 ? "" : `, ${Duration.format(Duration.seconds(seconds))} left`
      const rest = { rate: rate.toFixed(0), left }
      if (self === undefined) {
        const format = total === undefined
          ? "{title}  {value}  {rate}/s"
          : "{title} {bar} {value}/{total}  {rate}/s{left}"
        // The closing scope restores the cursor.
        self = new cliProgress.SingleBar({ format, hideCursor: true, gracefulExit: false })
        self.start(total ?? 0, 0, { title, ...rest })
      }
      self.update(done + failed, rest)
    },
    stop: () => self?.stop()
  }
}

const lines = (title: string): Drawing => {
  let told = 0
  return {
    update: ({ done, failed, rate, total }) => {
      const ended = done + failed
      const steps = total === undefined ? ended / rate / secondsPerLine : 4 * ended / total
      if (!(Math.floor(steps) > told)) return
      told = Math.floor(steps)
      process.stderr.write(`${title}: ${ended}${total === undefined ? "" : ` of ${total}`}, ${rate.toFixed(0)}/s\n`)
    },
    stop: () => {}
  }
}
