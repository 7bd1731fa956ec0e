/**
 * A progress bar where there is a terminal, a line at every quarter of the way where there is none. On the standard
 * error, so that the table on the standard output can be piped.
 */
import cliProgress from "cli-progress"
import { Effect } from "effect"
import type { Scope } from "effect"
import { count } from "./report.ts"

export interface Progress {
  readonly update: (now: { readonly done: number; readonly rate: number }) => void
}

/** Shows the progress of one run until the scope closes. */
export type Make = (title: string, total: number) => Effect.Effect<Progress, never, Scope.Scope>

export const none: Make = () => Effect.succeed({ update: () => {} })

/** Redraws every 0.1 s at most. */
export const bar: Make = (title, total) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const drawn = new cliProgress.SingleBar({
        format: `${title.padEnd(16)}{bar} {percentage}%  {done} of {all}  {rate}/s`,
        barsize: 32,
        fps: 10,
        autopadding: true,
        hideCursor: true,
        // The closing scope restores the cursor, when it is interrupted too.
        gracefulExit: false
      }, cliProgress.Presets.shades_classic)
      drawn.start(total, 0, { done: "0", all: count(total), rate: "0" })
      return drawn
    }),
    (drawn) => Effect.sync(() => drawn.stop())
  ).pipe(
    Effect.map((drawn) => ({
      update: ({ done, rate }) => drawn.update(done, { done: count(done), rate: count(Math.round(rate)) })
    }))
  )

export const lines: Make = (title, total) =>
  Effect.sync(() => {
    let quarters = 0
    return {
      update: ({ done, rate }) => {
        const now = Math.floor((4 * done) / total)
        if (now > quarters) {
          quarters = now
          process.stderr.write(`${title}: ${count(done)} of ${count(total)} done, ${count(Math.round(rate))}/s\n`)
        }
      }
    }
  })

export const auto: Make = (title, total) => process.stderr.isTTY ? bar(title, total) : lines(title, total)
