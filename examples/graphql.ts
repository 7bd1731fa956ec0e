/**
 * A GraphQL server over SQLite. Each field resolves itself, one look-up at a time: the author and the comments of each of
 * 20 posts, and the author of each of 60 comments. The Batcher makes one query of the look-ups of each kind.
 *
 * `npm run example -- graphql` prints:
 *
 *     one at a time: 101 SQL queries
 *     batched:         4 SQL queries, the same answer
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Console, Effect, Exit, Layer, Request, Schema } from "effect"
import { Batcher } from "effect-funnel"
import { HttpBody, HttpClient, HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { buildSchema, graphql } from "graphql"
import { DatabaseSync } from "node:sqlite"
import { serve } from "./support/serve.ts"

// The database: 7 users, 20 posts of three comments each.
interface Row {
  readonly id: number
  readonly author: number
  readonly post: number
  readonly text: string
}
const database = new DatabaseSync(":memory:")
database.exec(`
  CREATE TABLE users AS WITH RECURSIVE n(id) AS (VALUES (1) UNION ALL SELECT id + 1 FROM n WHERE id < 7)
    SELECT id, 'user ' || id AS name FROM n;
  CREATE TABLE posts AS WITH RECURSIVE n(id) AS (VALUES (1) UNION ALL SELECT id + 1 FROM n WHERE id < 20)
    SELECT id, id % 7 + 1 AS author, 'post ' || id AS text FROM n;
  CREATE TABLE comments AS WITH RECURSIVE n(id) AS (VALUES (0) UNION ALL SELECT id + 1 FROM n WHERE id < 59)
    SELECT id, id / 3 + 1 AS post, id % 7 + 1 AS author, 'comment ' || id AS text FROM n;
`)
let queries = 0
const select = <A>(sql: string, ids?: ReadonlyArray<number>) =>
  Effect.sync(() => {
    queries++
    return database.prepare(sql).all(...(ids === undefined ? [] : [JSON.stringify(ids)])) as unknown as ReadonlyArray<A>
  })

// The look-ups.
interface User {
  readonly id: number
  readonly name: string
}
class GetUser extends Request.Class<{ readonly id: number }, User> {}
class GetComments extends Request.Class<{ readonly post: number }, ReadonlyArray<Row>> {}

class Users extends Batcher.Resolver<Users>()(
  "app/Users",
  Batcher.findById(GetUser, {
    id: (request) => request.id,
    execute: (ids) => select<User>("SELECT * FROM users WHERE id IN (SELECT value FROM json_each(?))", ids),
    resultId: (user) => user.id,
    missing: ({ id }) => Exit.die(new Error(`no user ${id}`))
  })
) {}
class Comments extends Batcher.Resolver<Comments>()(
  "app/Comments",
  Batcher.grouped(GetComments, {
    id: (request) => request.post,
    execute: (posts) => select<Row>("SELECT * FROM comments WHERE post IN (SELECT value FROM json_each(?))", posts),
    resultId: (comment) => comment.post
  })
) {}

// The server. Each field is a fiber of its own.
const schema = buildSchema(`
  type User { name: String! }
  type Comment { text: String!, author: User! }
  type Post { text: String!, author: User!, comments: [Comment!]! }
  type Query { posts: [Post!]! }
`)

const GraphQL = Layer.unwrap(Effect.gen(function*() {
  const run = Effect.runPromiseWith(yield* Effect.context<Users | Comments>())
  const author = (id: number) => run(Effect.request(new GetUser({ id }), Users))
  const withAuthor = (row: Row) => ({ ...row, author: () => author(row.author) })
  const post = (row: Row) => ({
    ...withAuthor(row),
    comments: () =>
      run(Effect.map(Effect.request(new GetComments({ post: row.id }), Comments), (rows) => rows.map(withAuthor)))
  })
  const rootValue = { posts: () => run(Effect.map(select<Row>("SELECT * FROM posts"), (rows) => rows.map(post))) }
  return HttpRouter.add(
    "POST",
    "/graphql",
    Effect.gen(function*() {
      const { query } = yield* HttpServerRequest.schemaBodyJson(Schema.Struct({ query: Schema.String }))
      return HttpServerResponse.jsonUnsafe(yield* Effect.promise(() => graphql({ schema, rootValue, source: query })))
    })
  )
}))

// The client.
const ask = Effect.fnUntraced(function*(batcher: Layer.Layer<Batcher.Batcher>) {
  const url = yield* serve(Layer.provide(GraphQL, Layer.provide(Layer.merge(Users.layer, Comments.layer), batcher)))
  queries = 0
  const response = yield* HttpClient.post(`${url}/graphql`, {
    body: HttpBody.jsonUnsafe({ query: "{ posts { text author { name } comments { text author { name } } } }" })
  })
  return { answer: yield* response.text, queries }
})

const program = Effect.gen(function*() {
  const single = yield* ask(Batcher.layerNoop)
  yield* Console.log(`one at a time: ${single.queries} SQL queries`)
  const batched = yield* ask(Batcher.layer())
  const same = batched.answer === single.answer && single.answer.includes("comment 59")
  yield* Console.log(`batched:         ${batched.queries} SQL queries, ${same ? "the same" : "another"} answer`)
})

await Effect.runPromise(program.pipe(Effect.provide(NodeHttpClient.layerUndici), Effect.scoped))
