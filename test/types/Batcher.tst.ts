import { Batcher, type Scheduler } from "effect-funnel"
import type * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import type * as RequestResolver from "effect/RequestResolver"
import type * as Scope from "effect/Scope"
import { describe, expect, it } from "tstyche"

class NotFound extends Data.TaggedError("NotFound")<{}> {}
class DbError extends Data.TaggedError("DbError")<{}> {}
class Database
  extends Context.Service<Database, { readonly rows: Effect.Effect<Array<User>, DbError> }>()("Database")
{}
class Tenant extends Context.Service<Tenant, string>()("Tenant") {}
const Locale = Context.Reference<string>("Locale", { defaultValue: () => "en" })

interface User {
  readonly id: number
}
class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, User, NotFound | DbError> {}
interface GetName extends Request.Request<string, DbError> {
  readonly _tag: "GetName"
  readonly id: number
}
const GetName = Request.tagged<GetName>("GetName")
class GetDoc extends Request.Class<{ readonly id: number }, string, never, Tenant> {}

const byId = {
  id: (request: GetUser) => request.id,
  execute: () => Database.use((_) => _.rows),
  resultId: (row: User) => row.id,
  missing: () => Exit.fail(new NotFound())
}

describe("Batcher", () => {
  it("infers everything from a request class", () => {
    const users = Batcher.findById(GetUser, {
      id: (request) => {
        expect(request).type.toBe<GetUser>()
        return request.id
      },
      execute: (ids) => {
        expect(ids).type.toBe<Array.NonEmptyArray<number>>()
        return Database.use((_) => _.rows)
      },
      resultId: (row) => {
        expect(row).type.toBe<User>()
        return row.id
      },
      missing: () => Exit.fail(new NotFound())
    })
    expect(users).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetUser>, never, Batcher.Batcher | Scope.Scope | Database>
    >()
    expect(Effect.request(new GetUser({ id: 1 }), users)).type.toBe<
      Effect.Effect<User, NotFound | DbError, Batcher.Batcher | Scope.Scope | Database>
    >()
  })

  it("infers from a constructor made by Request.tagged", () => {
    const names = Batcher.ordered(GetName, {
      execute: (requests) => {
        expect(requests).type.toBe<Array.NonEmptyArray<GetName>>()
        return Effect.succeed(requests.map((_) => _.id === 0 ? Exit.fail(new DbError()) : "name"))
      }
    })
    expect(names).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetName>, never, Batcher.Batcher | Scope.Scope>
    >()
  })

  it("needs no Batcher when made by a handle", () => {
    const made = Effect.flatMap(Batcher.make(), (batcher) => batcher.findById(GetUser, byId))
    expect(made).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetUser>, never, Scope.Scope | Database>
    >()
  })

  it("fn infers ids and rows from execute, and fails with NotFoundError unless `missing` says otherwise", () => {
    const execute = (_: Array.NonEmptyArray<number>) => Database.use((_) => _.rows)
    const resultId = (row: User) => row.id
    expect(Batcher.fn("users")(execute, { resultId })).type.toBe<
      Effect.Effect<
        (id: number) => Effect.Effect<User, DbError | Batcher.NotFoundError<number>>,
        never,
        Batcher.Batcher | Scope.Scope | Database
      >
    >()
    expect(
      Batcher.fn("users")((ids: ReadonlyArray<string>) => Effect.succeed(ids), {
        resultId: (row) => row,
        missing: (id) => {
          expect(id).type.toBe<string>()
          return Exit.succeed(undefined)
        }
      })
    ).type.toBe<
      Effect.Effect<(id: string) => Effect.Effect<string | undefined>, never, Batcher.Batcher | Scope.Scope>
    >()
    expect(Batcher.fn("users")(execute, { resultId, missing: () => Exit.fail(new NotFound()) })).type.toBe<
      Effect.Effect<
        (id: number) => Effect.Effect<User, DbError | NotFound>,
        never,
        Batcher.Batcher | Scope.Scope | Database
      >
    >()
    const flag = (): boolean => true
    expect(
      Batcher.fn("users")(execute, { resultId, missing: flag() ? () => Exit.fail(new NotFound()) : undefined })
    ).type.toBe<
      Effect.Effect<
        (id: number) => Effect.Effect<User, DbError | NotFound | Batcher.NotFoundError<number>>,
        never,
        Batcher.Batcher | Scope.Scope | Database
      >
    >()
    const options: Batcher.FnOptions<number, User, string, never> = { resultId }
    expect(Batcher.fn("users")(execute, options)).type.toBe<
      Effect.Effect<
        (id: number) => Effect.Effect<User | string, DbError | Batcher.NotFoundError<number>>,
        never,
        Batcher.Batcher | Scope.Scope | Database
      >
    >()
    expect(Batcher.fn("users")).type.not.toBeCallableWith(execute, { resultId: () => "id" })
    expect(Batcher.fn("users")).type.not.toBeCallableWith(execute, {})
    const made = Effect.flatMap(Batcher.make(), (batcher) => batcher.fn("users")(execute, { resultId }))
    expect(made).type.toBe<
      Effect.Effect<
        (id: number) => Effect.Effect<User, DbError | Batcher.NotFoundError<number>>,
        never,
        Scope.Scope | Database
      >
    >()
  })

  it("refuses errors, rows, ids and missing results that do not fit the request", () => {
    expect(Batcher.findById).type.not.toBeCallableWith(GetUser, { ...byId, execute: () => Effect.fail("no") })
    expect(Batcher.findById).type.not.toBeCallableWith(GetUser, { ...byId, execute: () => Effect.succeed(["row"]) })
    expect(Batcher.findById).type.not.toBeCallableWith(GetUser, { ...byId, resultId: () => "id" })
    expect(Batcher.findById).type.not.toBeCallableWith(GetUser, { ...byId, missing: () => Exit.fail("no") })
    expect(Batcher.ordered).type.not.toBeCallableWith(GetName, { execute: () => Effect.succeed([1]) })
    expect(Batcher.ordered).type.not.toBeCallableWith(GetName, { execute: () => Effect.fail(new NotFound()) })
  })

  it("groups rows into lists that may be empty", () => {
    class All extends Request.Class<{ readonly of: number }, ReadonlyArray<User>> {}
    class Some extends Request.Class<{ readonly of: number }, Array.NonEmptyReadonlyArray<User>> {}
    const options = { id: (_: { of: number }) => _.of, execute: () => Effect.succeed([{ id: 1 }]), resultId: () => 1 }
    expect(Batcher.grouped(All, options)).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<All>, never, Batcher.Batcher | Scope.Scope>
    >()
    expect(Batcher.grouped).type.not.toBeCallableWith(Some, options)
  })

  it("takes the isolating services from the callers: they are in the request's requirements, and only those may isolate", () => {
    const execute = (requests: ReadonlyArray<GetDoc>) =>
      Effect.gen(function*() {
        const tenant = yield* Tenant
        yield* Database
        const locale = yield* Locale
        return requests.map(() => tenant + locale)
      })
    const docs = Batcher.ordered(GetDoc, { isolate: [Tenant, Locale], execute: (requests) => execute(requests) })
    expect(docs).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetDoc>, never, Batcher.Batcher | Scope.Scope | Database>
    >()
    expect(Batcher.ordered(GetDoc, { execute })).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetDoc>, never, Batcher.Batcher | Scope.Scope | Database | Tenant>
    >()
    expect(Batcher.ordered).type.not.toBeCallableWith(GetDoc, { isolate: [Database], execute })
    expect(Effect.request(new GetDoc({ id: 1 }), docs)).type.toBe<
      Effect.Effect<string, never, Tenant | Batcher.Batcher | Scope.Scope | Database>
    >()
  })

  it("gives a CachedResolver only with the option cache", () => {
    const cached = Batcher.findById(GetUser, {
      ...byId,
      cache: {
        capacity: 10,
        timeToLive: (exit, request) => {
          expect(exit).type.toBe<Exit.Exit<User, NotFound | DbError>>()
          expect(request).type.toBe<GetUser>()
          return "1 minute"
        }
      }
    })
    expect(cached).type.toBe<
      Effect.Effect<Batcher.CachedResolver<GetUser>, never, Batcher.Batcher | Scope.Scope | Database>
    >()
    const flag = (): boolean => true
    const cache: Batcher.CacheOptions<Request.Any> = { capacity: 10, timeToLive: () => "1 minute" }
    const plain = Batcher.findById(GetUser, { ...byId, cache: flag() ? cache : undefined })
    expect(plain).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetUser>, never, Batcher.Batcher | Scope.Scope | Database>
    >()
    const execute = (requests: ReadonlyArray<GetName>) => Effect.succeed(requests.map(() => "name"))
    expect(Batcher.ordered(GetName, { execute, ...(flag() ? { cache } : {}) })).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetName>, never, Batcher.Batcher | Scope.Scope>
    >()
    expect(Batcher.ordered(GetName, { execute, cache })).type.toBe<
      Effect.Effect<Batcher.CachedResolver<GetName>, never, Batcher.Batcher | Scope.Scope>
    >()
    expect(Batcher.ordered(GetName, { execute, cache: undefined })).type.toBe<
      Effect.Effect<RequestResolver.RequestResolver<GetName>, never, Batcher.Batcher | Scope.Scope>
    >()
    expect(Batcher.ordered).type.not.toBeCallableWith(GetName, { execute, cache: { capacity: 10 } })
    expect(Batcher.ordered).type.not.toBeCallableWith(GetName, { execute, cache, maxBatchsize: 1 })
    expect<Batcher.CachedResolver<GetUser>["prime"]>().type.toBeCallableWith(new GetUser({ id: 1 }), { id: 1 })
    expect<Batcher.CachedResolver<GetUser>["prime"]>().type.not.toBeCallableWith(new GetUser({ id: 1 }), "user")
    expect<ReturnType<Batcher.CachedResolver<GetDoc>["clear"]>>().type.toBe<Effect.Effect<void, never, Tenant>>()
  })

  it("Resolver is a tag of the resolver, with layers", () => {
    class Users extends Batcher.Resolver<Users>()("Users", Batcher.findById(GetUser, byId)) {}
    expect(Users.layer).type.toBe<Layer.Layer<Users, never, Batcher.Batcher | Database>>()
    expect(Users.layerNoop).type.toBe<Layer.Layer<Users, never, Database>>()
    expect(Effect.request(new GetUser({ id: 1 }), Users)).type.toBe<
      Effect.Effect<User, NotFound | DbError, Users>
    >()
  })

  it("layer and make need the scheduler they name, and none unless they name one", () => {
    class Backend extends Context.Service<Backend, Scheduler.Scheduler>()("Backend") {}
    expect(Batcher.layer()).type.toBe<Layer.Layer<Batcher.Batcher>>()
    expect(Batcher.layer({ window: "5 millis" })).type.toBe<Layer.Layer<Batcher.Batcher>>()
    expect(Batcher.make({ window: "5 millis" })).type.toBe<Effect.Effect<Batcher.Batcher>>()
    expect(Batcher.make({ scheduler: Backend })).type.toBe<Effect.Effect<Batcher.Batcher, never, Backend>>()
    expect(Batcher.layer({ scheduler: Backend })).type.toBe<Layer.Layer<Batcher.Batcher, never, Backend>>()
    expect(Batcher.layerNoop).type.toBe<Layer.Layer<Batcher.Batcher>>()
  })

  it("loadMany has the channels of the requests, and keeps a list that is not empty", () => {
    class Users extends Batcher.Resolver<Users>()("Users", Batcher.findById(GetUser, byId)) {}
    const one = new GetUser({ id: 1 })
    expect(Batcher.loadMany([one].slice(), Users)).type.toBe<
      Effect.Effect<Array<User>, NotFound | DbError, Users>
    >()
    expect(Batcher.loadMany([one, one], Users)).type.toBe<
      Effect.Effect<Array.NonEmptyArray<User>, NotFound | DbError, Users>
    >()
    expect(Batcher.loadManyExit([one, one], Users)).type.toBe<
      Effect.Effect<Array.NonEmptyArray<Exit.Exit<User, NotFound | DbError>>, never, Users>
    >()
    expect(Batcher.loadMany).type.not.toBeCallableWith([new GetDoc({ id: 1 })], Users)
  })
})
