/**
 * Configures the concurrency and the rates of a whole program in one place: the layers at its edge.
 *
 *     npm run example -- layers
 *
 * It prints:
 *
 *     SELECT * FROM readers WHERE id IN (1, 2, 3)
 *     render the autumn issue
 *     to ada@example.org: Dear Ada, the autumn issue
 *     to ben@example.org: Dear Ben, the autumn issue
 *     to cleo@example.org: Dear Cleo, the autumn issue
 */
import { Console, Context, Data, Effect, Exit, Layer, Request } from "effect"
import { Batcher, Reducer, Scheduler } from "effect-funnel"

class ReaderNotFound extends Data.TaggedError("ReaderNotFound")<{ readonly id: number }> {}

class GetReader extends Request.TaggedClass("GetReader")<{ readonly id: number }, Reader, ReaderNotFound> {}

interface Reader {
  readonly id: number
  readonly name: string
}

class Readers extends Batcher.Resolver<Readers>()(
  "app/Readers",
  Batcher.findById(GetReader, {
    id: (request) => request.id,
    execute: (ids) =>
      Console.log(`SELECT * FROM readers WHERE id IN (${ids.join(", ")})`).pipe(
        Effect.as(ids.map((id): Reader => ({ id, name: ["Ada", "Ben", "Cleo"][id - 1] ?? "" })))
      ),
    resultId: (reader) => reader.id,
    missing: ({ id }) => Exit.fail(new ReaderNotFound({ id }))
  })
) {}

// The limits of the backends: the database takes 4 queries at once, the mail server 10 mails a second.
class Database extends Scheduler.Service<Database>()("app/Database", { concurrency: 4 }) {}
class Mail extends Scheduler.Service<Mail>()("app/Mail", {
  concurrency: 2,
  rate: { limit: 10, window: "1 second", burst: 5 }
}) {}

const render = (issue: string) => Effect.as(Effect.delay(Console.log(`render the ${issue}`), 10), `the ${issue}`)

class Newsletter extends Context.Service<Newsletter, {
  readonly send: (issue: string, readerId: number) => Effect.Effect<void, ReaderNotFound | Scheduler.SchedulerError>
}>()("app/Newsletter") {
  // The service takes its dependencies once, here, so its callers need none of them.
  static readonly layer = Layer.effect(
    Newsletter,
    Effect.gen(function*() {
      const [readers, mail, reducer] = [yield* Readers, yield* Mail, yield* Reducer.Reducer]
      return {
        send: Effect.fnUntraced(function*(issue: string, readerId: number) {
          const { name } = yield* Effect.request(new GetReader({ id: readerId }), readers)
          const text = yield* reducer.reduce(issue, render(issue))
          yield* mail.schedule(Console.log(`to ${name.toLowerCase()}@example.org: Dear ${name}, ${text}`))
        })
      }
    })
  )
}

// The edge. Each layer is built once, even if it is used several times.
const app = Newsletter.layer.pipe(
  Layer.provide([Readers.layer, Mail.layer, Reducer.layer()]),
  Layer.provide(Batcher.layer({ scheduler: Database })),
  Layer.provide(Database.layer)
)

const program = Effect.gen(function*() {
  const { send } = yield* Newsletter
  yield* Effect.forEach([1, 2, 3], (id) => send("autumn issue", id), { concurrency: "unbounded", discard: true })
})

await Effect.runPromise(Effect.provide(program, app))
