/**
 * What the scripts of the stores over Redis have in common.
 */
import type * as Redis from "effect/persistence/Redis"

/** The start of every script: the server's time in microseconds, and numbers as text without losing digits. */
export const prelude = `
local format = string.format
local function num(x) return format(x % 1 == 0 and x < 9007199254740992 and '%d' or '%.17g', x) end
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

export const ignore = (): void => undefined
