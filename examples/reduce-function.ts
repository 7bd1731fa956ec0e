/**
 * Three panels of a page make the same search, with its fields in another order. `Reducer.fn` compares the arguments and
 * runs the search once. `forget` makes the next search see a product that was added in between.
 *
 *     npm run example -- reduce-function
 *
 * prints:
 *
 *     SELECT … WHERE text = 'lamp' LIMIT 2
 *     3 panels show: desk lamp, floor lamp
 *     SELECT … WHERE text = 'lamp' LIMIT 2
 *     SELECT … WHERE text = 'lamp' LIMIT 2
 *     asked before the change: desk lamp, floor lamp
 *     asked after it: clip lamp, desk lamp
 */
import { Console, Effect, Fiber } from "effect"
import { Reducer } from "effect-funnel"

interface Query {
  readonly text: string
  readonly limit: number
}

const products = ["desk lamp", "floor lamp", "chair"]

/** A fake database: it reads at once and answers after 30 ms. */
const search = Reducer.fn("search")((query: Query) =>
  Effect.gen(function*() {
    yield* Console.log(`SELECT … WHERE text = '${query.text}' LIMIT ${query.limit}`)
    const found = products.filter((name) => name.includes(query.text)).sort().slice(0, query.limit)
    yield* Effect.sleep("30 millis")
    return found.join(", ")
  })
)

const program = Effect.gen(function*() {
  const panels = yield* Effect.all([
    search({ text: "lamp", limit: 2 }),
    search({ limit: 2, text: "lamp" }),
    search({ text: "lamp", limit: 2 })
  ], { concurrency: "unbounded" })
  yield* Console.log(`${panels.length} panels show: ${[...new Set(panels)].join(" | ")}`)

  const before = yield* Effect.forkChild(search({ text: "lamp", limit: 2 }), { startImmediately: true })
  products.push("clip lamp")
  yield* Reducer.forget(search, { text: "lamp", limit: 2 })
  const after = yield* search({ text: "lamp", limit: 2 })
  yield* Console.log(`asked before the change: ${yield* Fiber.join(before)}`)
  yield* Console.log(`asked after it: ${after}`)
})

await Effect.runPromise(Effect.provide(program, Reducer.layer()))
