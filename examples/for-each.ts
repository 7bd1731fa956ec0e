/**
 * Sends a newsletter through a mail server that takes five messages at once and one every 20 ms. The editors are a short
 * list: `Effect.forEach` schedules each message. The readers are a long stream: `Scheduler.forEach` reads addresses only as
 * fast as it can send to them.
 *
 *     npm run example -- for-each
 *
 * prints:
 *
 *     20 sent to the editors, 5 at once at the most, in … ms
 *     40 sent to the readers, 5 at once at the most, in … ms
 *     read 5 addresses ahead at the most
 */
import { Console, Duration, Effect } from "effect"
import { Scheduler } from "effect-funnel"

class Mail extends Scheduler.Service<Mail>()("example/Mail", {
  concurrency: 5,
  rate: { limit: 50, window: "1 second" }
}) {}

let sending = 0
let mostAtOnce = 0
let sent = 0

/** A fake mail server: a message takes 120 ms. */
const send = (address: string) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      mostAtOnce = Math.max(mostAtOnce, ++sending)
    }),
    () => Effect.as(Effect.sleep("120 millis"), `sent to ${address}`),
    () =>
      Effect.sync(() => {
        sending--
        sent++
      })
  )

const editors = Array.from({ length: 20 }, (_, n) => `editor-${n}@example.org`)

/** A fake table that does not fit in memory. */
let mostAhead = 0
function* readers(count: number) {
  for (let n = 0; n < count; n++) {
    mostAhead = Math.max(mostAhead, n + 1 - (sent - editors.length))
    yield `reader-${n}@example.org`
  }
}

const program = Effect.gen(function*() {
  const [took, receipts] = yield* Effect.timed(
    Effect.forEach(editors, (address) => Mail.schedule(send(address)), { concurrency: "unbounded" })
  )
  yield* Console.log(`${receipts.length} sent to the editors, ${mostAtOnce} at once at the most, in ${millis(took)} ms`)

  const [lasted] = yield* Effect.timed(Mail.forEach(readers(40), send, { discard: true }))
  yield* Console.log(
    `${sent - editors.length} sent to the readers, ${mostAtOnce} at once at the most, in ${millis(lasted)} ms`
  )
  yield* Console.log(`read ${mostAhead} addresses ahead at the most`)
})

const millis = (duration: Duration.Duration) => Duration.toMillis(duration).toFixed(0)

await Effect.runPromise(Effect.provide(program, Mail.layer))
