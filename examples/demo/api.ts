/**
 * The API of the server, shared by server and clients.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"

export class Package extends Schema.Class<Package>("Package")({
  name: Schema.String,
  description: Schema.String,
  license: Schema.String,
  installs: Schema.Array(Schema.Struct({ version: Schema.String, path: Schema.String }))
}) {}

export class Author extends Schema.Class<Author>("Author")({
  name: Schema.String,
  role: Schema.String,
  /** The other packages of this author. */
  packages: Schema.Array(Schema.Struct({ name: Schema.String, role: Schema.String }))
}) {}

export class PackageNotFound extends Schema.TaggedError<PackageNotFound>()(
  "PackageNotFound",
  { name: Schema.String },
  { httpApiStatus: 404 }
) {}

/** The server has more to do than it can, and does not begin with this. */
export class TooBusy extends Schema.TaggedError<TooBusy>()("TooBusy", {}, { httpApiStatus: 503 }) {}

export class Statistics extends Schema.Class<Statistics>("Statistics")({
  /** How many times the effect behind a request ran. */
  effects: Schema.Int,
  queries: Schema.Int,
  mostQueriesAtOnce: Schema.Int
}) {}

export class PackagesApi extends HttpApiGroup.make("packages", { topLevel: true })
  .add(
    HttpApiEndpoint.get("find", "/packages/:name", {
      params: { name: Schema.String },
      success: Package,
      error: [PackageNotFound, TooBusy]
    }),
    HttpApiEndpoint.get("authors", "/packages/:name/authors", {
      params: { name: Schema.String },
      success: Schema.Array(Author),
      error: [PackageNotFound, TooBusy]
    }),
    HttpApiEndpoint.get("statistics", "/statistics", { success: Statistics })
  )
{}

export class Api extends HttpApi.make("packages-api").add(PackagesApi) {}
