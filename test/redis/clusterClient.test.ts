/**
 * What a client of a Redis Cluster is asked for, by a client that a test answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { type ClusterClient, layerCluster } from "../../src/redis/Redis.js"
import { fork, settle } from "../support/fibers.ts"

const clientOf = (calls: Array<unknown>, connect: () => Promise<unknown> = () => Promise.resolve()): ClusterClient => ({
  connect,
  destroy: () => calls.push("destroy"),
  on: () => undefined,
  sendCommand: (key, isReadonly, args) => {
    // A replica may answer what only reads.
    calls.push([isReadonly ? "any replica" : key, ...args])
    return args[0] === "EVALSHA" ? Promise.reject(new Error("NOSCRIPT No matching script.")) : Promise.resolve("sha")
  },
  subscribe: (channel, listener) => {
    calls.push(["subscribe", channel])
    listener("hello")
    return Promise.resolve()
  },
  unsubscribe: (channel) => {
    calls.push(["unsubscribe", channel])
    return Promise.reject(new Error("the node is gone"))
  }
})

describe("a client of a Redis Cluster", () => {
  it.effect("it is destroyed once with its scope, and before that ends its subscriptions, also if a node is gone", () =>
    Effect.gen(function*() {
      const calls: Array<unknown> = []
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(layerCluster(() => clientOf(calls)), scope)
      yield* Effect.gen(function*() {
        const news = yield* Context.get(context, Redis.Redis).subscribe("news")
        expect(yield* Queue.take(news)).toEqual({ channel: "news", message: "hello" })
        expect(calls).toEqual([["subscribe", "news"]])
      }).pipe(Effect.scoped)
      yield* settle
      expect(calls).toEqual([["subscribe", "news"], ["unsubscribe", "news"]])
      yield* Scope.close(scope, Exit.void)
      yield* settle
      expect(calls).toEqual([["subscribe", "news"], ["unsubscribe", "news"], "destroy"])
    }))

  it.effect("one that is given up while it connects is destroyed at once, and again when it has connected", () =>
    Effect.gen(function*() {
      const calls: Array<unknown> = []
      const connected = yield* Deferred.make<void>()
      const services = yield* Effect.context<never>()
      const connect = () => Effect.runPromiseWith(services)(Deferred.await(connected))
      const builds = yield* fork(Effect.scoped(Layer.build(layerCluster(() => clientOf(calls, connect)))))
      yield* Fiber.interrupt(builds)
      expect(calls).toEqual(["destroy"])
      yield* Deferred.succeed(connected, undefined)
      yield* settle
      expect(calls).toEqual(["destroy", "destroy"])
    }))

  it.effect("commands go to the node of their first key, and a node that lacks a script is given its text", () =>
    Effect.gen(function*() {
      const calls: Array<unknown> = []
      const redis = Context.get(yield* Layer.build(layerCluster(() => clientOf(calls))), Redis.Redis)
      yield* redis.send("GET", "key")
      for (const command of ["PING", "PUBLISH", "INFO", "TIME"]) yield* redis.send(command, "key")
      expect(yield* redis.send("SCRIPT", "LOAD", "return 1")).toBe("sha")
      yield* redis.send("EVALSHA", "sha", "1", "key", "argument")
      expect(Exit.isFailure(yield* Effect.exit(redis.send("EVALSHA", "other", "0", "argument")))).toBe(true)
      expect(calls).toEqual([
        ["key", "GET", "key"],
        [undefined, "PING", "key"],
        [undefined, "PUBLISH", "key"],
        [undefined, "INFO", "key"],
        [undefined, "TIME", "key"],
        [undefined, "SCRIPT", "LOAD", "return 1"],
        ["key", "EVALSHA", "sha", "1", "key", "argument"],
        ["key", "EVAL", "return 1", "1", "key", "argument"],
        [undefined, "EVALSHA", "other", "0", "argument"]
      ])
    }))
})
