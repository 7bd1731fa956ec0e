/**
 * Loads a page of posts with their authors and comments, one look-up at a time. 41 queries become 3.
 *
 * `npm run example -- n-plus-one` prints:
 *
 *     one at a time: 41 queries
 *     batched: 3 queries
 *       posts
 *       users 1, 2, 3, 4, 5
 *       comments 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
 */
import { Console, Effect, Exit, Layer, Request } from "effect"
import { Batcher } from "effect-funnel"

interface Post {
  readonly id: number
  readonly author: number
}

const posts: ReadonlyArray<Post> = Array.from({ length: 20 }, (_, i) => ({ id: i + 1, author: (i % 5) + 1 }))
const queries: Array<string> = []
const query = <A>(text: string, rows: A) =>
  Effect.suspend(() => {
    queries.push(text)
    return Effect.as(Effect.sleep("5 millis"), rows)
  })

class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, { id: number; name: string }> {}
class GetComments extends Request.TaggedClass("GetComments")<
  { readonly post: number },
  ReadonlyArray<{ readonly post: number; readonly text: string }>
> {}

class Users extends Batcher.Resolver<Users>()(
  "example/Users",
  Batcher.findById(GetUser, {
    id: (request) => request.id,
    execute: (ids) => query(`users ${ids.join(", ")}`, ids.map((id) => ({ id, name: `user ${id}` }))),
    resultId: (user) => user.id,
    missing: ({ id }) => Exit.die(new Error(`no user ${id}`))
  })
) {}

class Comments extends Batcher.Resolver<Comments>()(
  "example/Comments",
  Batcher.grouped(GetComments, {
    id: (request) => request.post,
    execute: (ids) => query(`comments ${ids.join(", ")}`, ids.map((post) => ({ post, text: `on ${post}` }))),
    resultId: (comment) => comment.post
  })
) {}

const item = (post: Post) =>
  Effect.all({
    author: Effect.request(new GetUser({ id: post.author }), Users),
    comments: Effect.request(new GetComments({ post: post.id }), Comments)
  }, { concurrency: "unbounded" })

const page = Effect.flatMap(
  query("posts", posts),
  (posts) => Effect.forEach(posts, item, { concurrency: "unbounded" })
)

const count = (title: string, batcher: Layer.Layer<Batcher.Batcher>) =>
  Effect.gen(function*() {
    queries.length = 0
    yield* Effect.provide(page, Layer.provide(Layer.mergeAll(Users.layer, Comments.layer), batcher))
    yield* Console.log(`${title}: ${queries.length} queries`)
  })

const program = Effect.gen(function*() {
  yield* count("one at a time", Batcher.layerNoop)
  yield* count("batched", Batcher.layer())
  yield* Effect.forEach(queries, (query) => Console.log(`  ${query}`))
})

await Effect.runPromise(program)
