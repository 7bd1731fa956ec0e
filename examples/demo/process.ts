/**
 * A server process: serves the catalog, tells its parent the address, and ends when it is told to.
 */
import { NodeRedis, NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import * as Dashboard from "effect-funnel/dashboard"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import { HttpServer } from "effect/http"
import { fileURLToPath } from "node:url"
import { Database, poolSize } from "./database.ts"
import * as Direct from "./direct.ts"
import * as Funnel from "./funnel.ts"
import { readInstalled } from "./packages.ts"
import * as Server from "./server.ts"
import * as Shared from "./shared.ts"

const {
  DEMO_CATALOG: catalog,
  DEMO_CONNECTIONS: pool,
  DEMO_PREFIX: prefix = "demo",
  DEMO_PROCESSES: processes = "1",
  DEMO_REDIS: url
} = process.env

const inspector = Inspector.layer()

const CatalogLive = url === undefined
  ? Funnel.layer
  : Shared.layer({ prefix, processes: Number(processes) }).pipe(
    Layer.provide(NodeRedis.layer({ url, disableOfflineQueue: true, commandOptions: { timeout: 0 } }))
  )

// Alone, each process has four connections. Over one Redis the four of each are shared: one process may use them all.
const connections = pool === "unbounded" ? pool : poolSize * (url === undefined ? 1 : Number(processes))

const DatabaseLive = Layer.unwrap(
  Effect.map(
    readInstalled(fileURLToPath(new URL("../../node_modules", import.meta.url))),
    (installed) => Database.layer({ installed, connections })
  )
)

const ServerLive = catalog === "direct"
  ? Server.layer.pipe(Layer.provide(Direct.layer))
  : catalog === "watched"
  ? Server.layerWith(Dashboard.layer()).pipe(
    Layer.provide(Layer.provide(CatalogLive, Metrics.layer)),
    Layer.provide(inspector)
  )
  : Server.layer.pipe(Layer.provide(CatalogLive))

// If the parent dies, its servers end too.
process.once("disconnect", () => process.exit())

HttpServer.addressFormattedWith((address) => Effect.andThen(Effect.sync(() => process.send?.(address)), Effect.never))
  .pipe(
    Effect.provide(Layer.provide(ServerLive, DatabaseLive)),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
