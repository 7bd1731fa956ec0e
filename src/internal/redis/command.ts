/**
 * What the scripts and commands of all stores over Redis have in common.
 */
import * as Effect from "effect/Effect"
import type * as Redis from "effect/persistence/Redis"
import { StoreError } from "../store/storeError.js"

/** The time in every script is the server's, in microseconds; numbers go through Redis as text without losing digits. */
export const prelude = `
local function num(x) return string.format('%.17g', x) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
`

/** Runs a command, and names it in the error when it fails. */
export const command = <A, B>(
  operation: string,
  effect: Effect.Effect<A, Redis.RedisError>,
  f: (reply: A) => B
): Effect.Effect<B, StoreError> =>
  Effect.mapBoth(effect, { onFailure: ({ cause }) => new StoreError({ operation, cause }), onSuccess: f })
