/**
 * The page in a real browser, from a real server.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Schedule, Scope } from "effect"
import { Reducer, Scheduler } from "effect-funnel"
import * as Dashboard from "effect-funnel/dashboard"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"
import type { Browser, Page } from "playwright-core"
import { hasBrowser, launch, open } from "./support/browser.ts"
import { fork } from "./support/fibers.ts"
import { withRegistry } from "./support/metrics.ts"

class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 1 }) {}
class Users extends Reducer.Service<Users>()("app/Users") {}

const inspector = Inspector.layer()
const observed = Layer.merge(Metrics.layer, inspector)

const serve = (options: Dashboard.Options, port = 0) =>
  HttpRouter.serve(Dashboard.layer({ every: "100 millis", ...options }), {
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Layer.provide(inspector),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port }))
  )

const services = Layer.merge(GitHub.layer, Users.layer).pipe(Layer.provide(observed))

/** Serves the page of the services, and opens it: nothing is ever on its console, and it asks nobody else for anything. */
const looking = <A, E, R>(
  use: (page: Page, url: string) => Effect.Effect<A, E, R>,
  options: Dashboard.Options & Parameters<typeof open>[2] = {}
) =>
  HttpServer.addressFormattedWith((url) =>
    Effect.gen(function*() {
      const { messages, page, requests } = yield* open(browser, `${url}/funnel`, options)
      const result = yield* use(page, url)
      assert.deepStrictEqual(messages, [])
      assert.deepStrictEqual(requests.filter((request) => !request.startsWith(url)), [])
      return result
    })
  ).pipe(
    Effect.provide(Layer.provideMerge(serve(options), services)),
    Effect.scoped,
    withRegistry
  )

const text = (page: Page, pattern: RegExp) => Effect.promise(() => page.getByText(pattern).first().waitFor())

/** Until the interruption: ten callers for each run. */
const load = Effect.forEach(Array.from({ length: 10 }), () => Users.reduce("key", GitHub.schedule(Effect.sleep(5))), {
  concurrency: "unbounded",
  discard: true
}).pipe(Effect.repeat(Schedule.forever))

/** In the browser: the texts whose contrast is too low (WCAG 2.2, AA). */
const faintTexts = `(() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const channel = Number(part) / 255
      return channel <= 0.03928 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const backOf = (element) => {
    const color = getComputedStyle(element).backgroundColor
    return color === "rgba(0, 0, 0, 0)" ? backOf(element.parentElement) : color
  }
  const hasText = (_) => Array.from(_.childNodes).some((_) => _.nodeType === 3 && /\\S/.test(_.data))
  return Array.from(document.querySelectorAll("body *"))
    .filter((_) => _.checkVisibility() && hasText(_))
    .filter((_) => {
      const [a, b] = [luminance(getComputedStyle(_).color), luminance(backOf(_))]
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5
    })
    .map((_) => _.textContent)
})()`

let browser: Browser

describe.skipIf(!hasBrowser)("the dashboard", () => {
  beforeAll(async () => {
    browser = await launch()
  }, 30_000)
  afterAll(() => browser.close())

  it.live("figures move under load: ten calls become one run", () =>
    looking((page) =>
      Effect.gen(function*() {
        yield* text(page, /no call came/)
        yield* fork(load)
        yield* text(page, /calls became [\d,]+: [\d,]+ saved, (8[5-9]|9\d)/)
        yield* text(page, /calls in [\d.]+K?\/s · at most/)
        // While no call had come it was a plot of jobs.
        yield* Effect.promise(() =>
          page.locator("#flow span", { hasText: /^calls out [\d.]+\/s · at most / }).waitFor()
        )
        assert.match(
          (yield* Effect.promise(() => page.locator("#flow figure").getAttribute("aria-label")))!,
          /^calls in and out, a second, at [\d:]+: calls in [\d.K]+\/s, at most [\d.K]+; calls out /
        )
        const headline = () => page.locator("#headline").textContent()
        const before = yield* Effect.promise(headline)
        yield* Effect.promise(() => page.locator("#headline").filter({ hasNotText: before! }).waitFor())
        const painted = yield* Effect.promise(() =>
          page.evaluate(`(() => {
            const canvas = document.querySelector("canvas")
            return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((_) => _ > 0)
          })()`)
        )
        assert.strictEqual(painted, true)
        const labels = yield* Effect.promise(() =>
          page.evaluate<Array<string>>(
            `Array.from(document.querySelectorAll("figure[role=img]"), (_) => _.getAttribute("aria-label"))`
          )
        )
        assert.isAtLeast(labels.length, 4)
        for (const label of labels) assert.match(label, /: .+, at most /)
      })
    ))

  it.live("what waits is in the list of problems, in the waits, and in who waits for whom", () =>
    looking((page) =>
      Effect.gen(function*() {
        yield* fork(GitHub.schedule(Effect.never))
        yield* fork(Users.reduce("secret", GitHub.schedule(Effect.never, { share: "tenant" })))
        yield* text(page, /waiting for width/)
        yield* text(page, /oldest wait [\d,.]+ m?s · at most [\d.K]+ s$/)
        yield* Effect.promise(() => page.locator("#waits td", { hasText: "app/GitHub" }).waitFor())
        yield* Effect.promise(() => page.locator("#runs td", { hasText: "app/Users" }).waitFor())
        yield* Effect.promise(() => page.locator("#edges td", { hasText: "run 1 (app/Users)" }).waitFor())
        yield* Effect.promise(() => page.locator("#problems a", { hasText: "app/GitHub" }).click())
        assert.match(page.url(), /#card-\d+$/)
        assert.notMatch(yield* Effect.promise(() => page.content()), /secret|tenant/)
      })
    ))

  it.live("keys are shown with `showKeys` only", () =>
    looking((page) =>
      Effect.gen(function*() {
        yield* fork(Users.reduce("secret", GitHub.schedule(Effect.never)))
        yield* text(page, /key "secret"/)
      }), { showKeys: true }))

  it.live("a server that starts anew is found again, and the page says what it does meanwhile", () =>
    Effect.gen(function*() {
      const up = Effect.fn(function*(port: number) {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(Layer.fresh(serve({}, port)), scope)
        const { address } = yield* Effect.provide(HttpServer.HttpServer, context)
        return { scope, port: "port" in address ? address.port : 0 }
      })
      const first = yield* up(0)
      const { messages, page } = yield* open(browser, `http://127.0.0.1:${first.port}/funnel`)
      const tells = (what: string) =>
        Effect.promise(() => page.locator("#link", { hasText: what }).waitFor({ timeout: 8000 }))
      yield* tells("live")
      const [took] = yield* Effect.timed(Scope.close(first.scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 3000)
      yield* tells("trying again")
      // Paused meanwhile, it still says so, and no longer once there is a server.
      yield* Effect.promise(() => page.locator("#pause").click())
      yield* tells("trying again")
      const told = messages.filter((message) => !/net::ERR_/.test(message))
      assert.deepStrictEqual(told, [])
      const second = yield* up(first.port)
      yield* tells("paused")
      yield* Effect.promise(() => page.locator("#pause").click())
      yield* tells("live")
      yield* Scope.close(second.scope, Exit.void)
    }).pipe(Effect.scoped, withRegistry))

  it.live("names and keys are text, whatever they are", () => {
    const name = `</script><img src=x onerror="document.title='broken'">'"&lt;`
    const hostile = Layer.merge(
      Scheduler.layer({ concurrency: 1, name }),
      Reducer.layer({ name: "x".repeat(1_000_000) })
    ).pipe(Layer.provide(observed))
    return looking((page) =>
      Effect.gen(function*() {
        yield* fork(Scheduler.schedule(Effect.never))
        yield* fork(Reducer.reduce(`</script>${"k".repeat(1_000_000)}`, Scheduler.schedule(Effect.never)))
        yield* Effect.promise(() => page.locator("h3", { hasText: name }).waitFor())
        yield* Effect.promise(() => page.locator("#runs td", { hasText: "</script>kkk" }).waitFor())
        assert.strictEqual(yield* Effect.promise(() => page.title()), "Funnel")
        assert.strictEqual(yield* Effect.promise(() => page.locator("img").count()), 0)
        assert.isBelow((yield* Effect.promise(() => page.content())).length, 200_000)
      }).pipe(Effect.provide(hostile)), { showKeys: true })
  })

  it.live("on a phone nothing makes the page scroll sideways", () =>
    looking((page) =>
      Effect.gen(function*() {
        yield* fork(load)
        yield* fork(GitHub.schedule(Effect.never))
        yield* text(page, /waiting for width/)
        const width = yield* Effect.promise(() => page.evaluate<number>("document.documentElement.scrollWidth"))
        assert.isAtMost(width, 360)
      }), { width: 360 }))

  it.live("the keyboard reaches the button, the problems and the lists, and shows where it is", () =>
    looking((page) =>
      Effect.gen(function*() {
        yield* fork(GitHub.schedule(Effect.never))
        yield* fork(GitHub.schedule(Effect.never))
        yield* text(page, /waiting for width/)
        const reached: Array<string> = []
        for (let i = 0; i < 5; i++) {
          yield* Effect.promise(() => page.keyboard.press("Tab"))
          reached.push(
            yield* Effect.promise(() =>
              page.evaluate<string>(`(() => {
                const { activeElement: at } = document
                const { outlineStyle, outlineWidth } = getComputedStyle(at)
                return [at.id || at.textContent, outlineStyle, outlineWidth].join(" ")
              })()`)
            )
          )
        }
        assert.deepStrictEqual(
          reached,
          ["pause", "app/GitHub", "waits", "runs", "edges"].map((_) => `${_} solid 2px`)
        )
        yield* Effect.promise(() => page.locator("#pause").press("Enter"))
        yield* Effect.promise(() => page.locator("#link", { hasText: "paused" }).waitFor())
        assert.strictEqual(yield* Effect.promise(() => page.locator("#pause").getAttribute("aria-pressed")), "true")
        yield* Effect.promise(() => page.locator("#pause").press("Enter"))
        yield* Effect.promise(() => page.locator("#link", { hasText: "live" }).waitFor())
      })
    ))

  it.live("each text has a contrast of 4.5 or more, in both schemes", () =>
    looking((page) =>
      Effect.gen(function*() {
        yield* fork(load)
        yield* fork(GitHub.schedule(Effect.never))
        yield* text(page, /waiting for width/)
        for (const colorScheme of ["light", "dark"] as const) {
          yield* Effect.promise(() => page.emulateMedia({ colorScheme }))
          assert.deepStrictEqual(yield* Effect.promise(() => page.evaluate<Array<string>>(faintTexts)), [])
        }
      })
    ))
})
