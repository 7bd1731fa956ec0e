/**
 * What the scripts of the stores over Redis have in common.
 */
import type * as Redis from "effect/persistence/Redis"

export { longestLease, named } from "../store/bounds.js"

/** The start of every script: the server's time in microseconds, and numbers as text without losing digits. */
export const prelude = `
local format = string.format
local function num(x) return format(x % 1 == 0 and x < 9007199254740992 and '%d' or '%.17g', x) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
`

/** The reason why a command failed. A client of one node does not reach the keys of the others. */
export const causeOf = ({ cause }: Redis.RedisError): unknown =>
  cause instanceof Error && cause.message.startsWith("MOVED ")
    ? new Error(`Redis is a cluster, use layerCluster of effect-funnel/redis/Redis (${cause.message})`, { cause })
    : cause

export const ignore = (): void => undefined
