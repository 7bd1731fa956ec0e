/**
 * A PostgreSQL that can be harmed, and the witness of what is written there.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { migration } from "../../../src/internal/postgres/tables.ts"
import type { PostgresServer } from "../../support/postgresServer.ts"
import { clock, pause, type SteppedClock } from "../faults/harness.ts"
import type { Step } from "./plan.ts"
import { type Scene, type Servers, stepClock } from "./servers.ts"

/** Tells each state of a rate that is written, in the order of the commits. */
const trigger = `DO $do$
BEGIN
CREATE FUNCTION effect_funnel.witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('witness', NEW.key || ' ' || NEW.anchor::bigint || ' ' || NEW.debts[1] || ' ' || NEW.state);
  RETURN NEW;
END $$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE ON effect_funnel.rates FOR EACH ROW EXECUTE FUNCTION effect_funnel.witness();
END $do$`

const tables = ["flights", "waiters", "permits", "queue", "penalties", "rates"].map((_) => `effect_funnel.${_}`).join(
  ", "
)

/** The sessions of the processes. */
const sessions = "backend_type = 'client backend' AND application_name <> 'witness'"

export class PostgresServers implements Servers {
  readonly mostConnections = 4
  private readonly scene: Scene
  private readonly server: PostgresServer
  private readonly clock: SteppedClock | undefined
  private offset = 0
  private scope: Scope.Closeable | undefined
  private pg!: PgClient.PgClient

  private constructor(scene: Scene, server: PostgresServer, stepped: SteppedClock | undefined) {
    this.scene = scene
    this.server = server
    this.clock = stepped
  }

  static async make(scene: Scene): Promise<PostgresServers> {
    const { onPrimary, stage, withClocks } = scene
    const stepped = withClocks ? stage.clock() : undefined
    const server = await stage.postgres(stepped?.environment)
    const servers = new PostgresServers(scene, server, stepped)
    await servers.attach()
    await servers.sql(migration("effect_funnel"))
    await servers.sql(trigger)
    onPrimary(server.port)
    return servers
  }

  urlAt(port: number): string {
    return `postgres://postgres@127.0.0.1:${port}/postgres`
  }

  /** Connects the witness. */
  private async attach(): Promise<void> {
    const scope = this.scope = Scope.makeUnsafe()
    const { note } = this.scene.recorder
    const layer = PgClient.layer({
      url: this.server.url,
      maxConnections: 3,
      minConnections: 0,
      applicationName: "witness"
    })
    await Effect.runPromise(Scope.provide(
      Effect.gen({ self: this }, function*() {
        this.pg = Context.get(yield* Layer.build(Layer.fresh(layer)), PgClient.PgClient)
        const told = yield* this.pg.listen("witness")
        const read = Effect.map(Queue.take(told), ({ payload }) => {
          const t = clock()
          if (payload === "forgot") return note({ e: "forgot", server: "p" }, t)
          const state = /=(\w+) (\d+) ([\d.e+-]+) \d+$/.exec(payload)
          if (state === null) throw new Error(`the witness cannot read ${payload}`)
          note({ e: "slots", server: "p", key: state[1]!, at: Number(state[2]), debt: Number(state[3]) }, t)
        })
        yield* Effect.forkScoped(Effect.ignore(Effect.forever(read)))
      }),
      scope
    ))
  }

  private sql(text: string): Promise<ReadonlyArray<Readonly<Record<string, unknown>>>> {
    return Effect.runPromise(this.pg.unsafe<Record<string, unknown>>(text))
  }

  async harm({ action, amount = 0 }: Step): Promise<void> {
    const { scene: { recorder: { note } }, server } = this
    switch (action) {
      default:
        throw new Error(`${action} is not done to PostgreSQL`)
      case "freezeServer":
        return server.signal("SIGSTOP")
      case "thawServer":
        return server.signal("SIGCONT")
      case "killServer":
        return this.stop("SIGQUIT")
      case "shutDown":
        return this.stop("SIGINT")
      case "startKept":
        await server.start()
        await this.attach()
        return this.scene.onPrimary(server.port)
      case "flushAll":
        await this.sql(`DO $do$ BEGIN TRUNCATE ${tables}; NOTIFY witness, 'forgot'; END $do$`)
        return note({ e: "lost", what: "TRUNCATE" })
      case "killClients":
        return void await this.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${sessions}`)
      case "killSubscribers":
        return void await this.sql(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${sessions} AND query LIKE 'LISTEN%'`
        )
      case "lock":
        // Another session holds the tables.
        return void await this.sql(`DO $do$ BEGIN LOCK TABLE ${tables}; PERFORM pg_sleep(${amount / 1000}); END $do$`)
      case "stepClock":
        return this.stepClock(amount)
    }
  }

  /** A server may die between a reply and what it tells the witness. So nobody gets a reply that the witness may miss. */
  private async stop(signal: "SIGQUIT" | "SIGINT"): Promise<void> {
    this.scene.onPrimary(undefined)
    this.scene.silence()
    await this.sql("SELECT 1")
    await pause(50)
    await this.end()
    await this.server.stop(signal)
  }

  private async stepClock(seconds: number): Promise<void> {
    if (this.clock === undefined) return
    this.offset += seconds
    await stepClock(this.scene.recorder, this.clock, this.offset - seconds, this.offset)
  }

  async end(): Promise<void> {
    if (this.scope !== undefined) await Effect.runPromise(Scope.close(this.scope, Exit.void))
    this.scope = undefined
  }

  async connections(): Promise<number> {
    const [row] = await this.sql(`SELECT count(*)::int AS n FROM pg_stat_activity WHERE ${sessions}`)
    return Number(row!.n)
  }

  async leftovers(): Promise<ReadonlyArray<string>> {
    // Where the clock stepped back, what a process that is gone has left is cut to its lease by the next one that asks.
    const tables = [["a permit", "permits"], ["a place", "queue"], ["a leader", "flights"]] as const
    const rows = await this.sql(
      tables.map(([what, table]) =>
        `SELECT '${what}' AS what, key FROM effect_funnel.${table}, (SELECT extract(epoch FROM clock_timestamp()) * 1e6 AS now) _
        WHERE until BETWEEN now AND now + lease`
      ).join(" UNION ALL ")
    )
    return rows.map(({ key, what }) => `${what} of ${key}`)
  }
}
