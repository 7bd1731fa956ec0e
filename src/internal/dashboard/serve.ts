/**
 * Serves the page, and the stream of frames to those who look at it. Each of them asks for the next frame when its connection
 * has taken the last one: a slow one misses frames, and while nobody looks nothing is done.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { csp, html } from "./bundle.js"

interface Settings {
  /** Milliseconds between two frames. */
  readonly every: number
  readonly maxViewers: number
}

/** A frame of very many jobs takes its time, which nothing else has: the next one waits for so many times as long. */
const restsFor = 20

/** A connection that takes nothing for so long is closed: it holds the place of another. */
const patienceMillis = 30_000

const headers = {
  "cache-control": "no-store",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff"
}

export const page: HttpServerResponse.HttpServerResponse = /*#__PURE__*/ HttpServerResponse.text(html, {
  contentType: "text/html; charset=utf-8",
  headers: {
    ...headers,
    "content-security-policy": csp,
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY"
  }
})

interface Viewer {
  readonly closing: Latch.Latch
  /** When its connection asked for a frame, in milliseconds that nobody sets. */
  asked: number
  /** The frame that it got. */
  last: object | undefined
}

/**
 * Node's server tells nobody that it closes, and waits for the requests before it closes any scope. Its sockets know it: those
 * of HTTP/1 by their server, those of HTTP/2 by their session. Elsewhere it is never seen.
 */
const isClosing = ({ source }: HttpServerRequest): boolean => {
  const { socket, stream } = source as {
    readonly socket?: { readonly server?: { readonly listening?: boolean } }
    readonly stream?: { readonly session?: { readonly closed?: boolean } }
  }
  return socket?.server?.listening === false || stream?.session?.closed === true
}

/**
 * Makes the handler of the stream of frames. They are the same for all viewers: `encode` is asked at most twice a period. It is
 * told the time, and after how long there may be another frame.
 */
export const events = (
  settings: Settings,
  encode: (now: number, every: number) => string
): Effect.Effect<
  Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest | Scope.Scope>,
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const { every, maxViewers } = settings
    const viewers = new Set<Viewer>()
    let closed = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        for (const { closing } of viewers) closing.openUnsafe()
      })
    )

    const encoder = new TextEncoder()
    const clock = yield* Clock.Clock
    const millis = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    let last: { readonly at: number; readonly bytes: Uint8Array } | undefined
    let rest = 0
    const frame = (now: number) => {
      if (last === undefined || now - last.at >= Math.max(every / 2, rest) || now < last.at) {
        const begun = millis()
        last = { at: now, bytes: encoder.encode(`data: ${encode(now, Math.max(every, rest))}\n\n`) }
        rest = restsFor * (millis() - begun)
      }
      return last
    }

    const frames = (viewer: Viewer) =>
      Stream.unfold(undefined, () =>
        Effect.gen(function*() {
          while (true) {
            if (viewer.last !== undefined) yield* Effect.raceFirst(Effect.sleep(every), viewer.closing.await)
            if (viewer.closing.isOpen()) return undefined
            viewer.asked = millis()
            const next = frame(clock.currentTimeMillisUnsafe())
            if (next === viewer.last) continue
            viewer.last = next
            return [next.bytes, undefined] as const
          }
        }))

    /** Ends the stream when the server closes, and the connection of a viewer that takes nothing. */
    const watch = (viewer: Viewer, request: HttpServerRequest, fiber: Fiber<unknown, unknown>) =>
      Effect.gen(function*() {
        const step = Math.min(every, 1000)
        while (!viewer.closing.isOpen()) {
          yield* Effect.raceFirst(Effect.sleep(step), viewer.closing.await)
          if (isClosing(request) || millis() - viewer.asked > every + patienceMillis) viewer.closing.openUnsafe()
        }
        // One that does not come for the end of its stream holds up neither the server nor others. Its request may have ended,
        // and its stream be all that is left.
        yield* Effect.sleep(1000)
        viewers.delete(viewer)
        fiber.interruptUnsafe()
      })

    return Effect.withFiber((fiber) =>
      Effect.gen(function*() {
        const request = yield* HttpServerRequest
        const viewer: Viewer = { closing: Latch.makeUnsafe(), asked: millis(), last: undefined }
        // In one step: the fibers of others come in between two.
        const hasPlace = yield* Effect.acquireRelease(
          Effect.sync(() => !closed && viewers.size < maxViewers && viewers.add(viewer).has(viewer)),
          () => Effect.sync(() => viewers.delete(viewer))
        )
        if (!hasPlace) {
          return HttpServerResponse.empty({ status: 503, headers: { ...headers, "retry-after": "5" } })
        }
        yield* Effect.forkScoped(watch(viewer, request, fiber))
        return HttpServerResponse.stream(frames(viewer), {
          contentType: "text/event-stream",
          // The connection is for this stream alone, and a proxy passes each frame on at once.
          headers: { ...headers, connection: "close", "x-accel-buffering": "no" }
        })
      })
    )
  })
