/**
 * Scripts and commands of the stores over Redis.
 */
import * as Effect from "effect/Effect"
import * as Redis from "effect/persistence/Redis"
import { StoreError } from "../store/storeError.js"

/** The start of every script: the server's time in microseconds, and numbers as text without losing digits. */
export const prelude = `
local function num(x) return string.format('%.17g', x) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
`

/** The longest lease, in microseconds: what another client has written is no reason to wait for longer. */
export const longestLease = 3_600_000_000

/** The name of a key of the user, behind a sign. Redis gets bytes, and half a surrogate pair has none of its own. */
export const named = (sign: string, key: string): string => key.isWellFormed() ? sign + key : `~${JSON.stringify(key)}`

/** The reason why a command failed. A client of one node does not reach the keys of the others. */
export const causeOf = ({ cause }: Redis.RedisError): unknown =>
  cause instanceof Error && cause.message.startsWith("MOVED ")
    ? new Error(`Redis is a cluster, use layerCluster of effect-funnel/redis/Redis (${cause.message})`, { cause })
    : cause

/** Runs a command. A failure becomes a `StoreError` that names the operation. */
export const command = <A, B>(
  operation: string,
  effect: Effect.Effect<A, Redis.RedisError>,
  f: (reply: A) => B
): Effect.Effect<B, StoreError> =>
  Effect.mapBoth(effect, {
    onFailure: (error) => new StoreError({ operation, cause: causeOf(error) }),
    onSuccess: f
  })

/** Makes a command of a Lua script. Its arguments are its keys, then what the first lines of the script name. */
export const script = <Reply>(operation: string, numberOfKeys: number, lua: string) => {
  const self = Redis.script((args: ReadonlyArray<string | number>) => args, { numberOfKeys, lua })
    .withReturnType<Reply>()
  return (redis: Redis.Redis["Service"]) => {
    const run = redis.eval(self)
    return <A>(args: ReadonlyArray<string | number>, f: (reply: Reply) => A): Effect.Effect<A, StoreError> =>
      command(operation, run(args), f)
  }
}

export const ignore = (): void => undefined
