/**
 * A real Chromium, and pages of it that note what a page must not do.
 */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { type Browser, chromium, type Page } from "playwright-core"

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync)

if (executablePath === undefined) {
  const advice = "Chromium is not installed: apt-get install -y chromium (Debian)"
  if (process.env.CI !== undefined) throw new Error(advice)
  console.warn(`\nSKIPPED, the tests in a browser: ${advice}\n`)
}

/** Whether there is a browser to test with. In CI a missing one is a failure, not a skip. */
export const hasBrowser = executablePath !== undefined

export const launch = (): Promise<Browser> =>
  chromium.launch({ executablePath: executablePath!, args: ["--no-sandbox"] })

export interface Seen {
  readonly page: Page
  /** What is on the console, and errors that nobody caught. */
  readonly messages: ReadonlyArray<string>
  /** The addresses of all requests. */
  readonly requests: ReadonlyArray<string>
}

/** Opens a page, which is closed with the scope. */
export const open = (
  browser: Browser,
  url: string,
  options: { readonly width?: number; readonly colorScheme?: "dark" | "light" } = {}
) =>
  Effect.gen(function*() {
    const { colorScheme = "light", width = 1280 } = options
    const page = yield* Effect.acquireRelease(
      Effect.promise(() => browser.newPage({ viewport: { width, height: 800 }, colorScheme })),
      (page) => Effect.promise(() => page.close())
    )
    const messages: Array<string> = []
    const requests: Array<string> = []
    page.on("console", (message) => messages.push(message.text()))
    page.on("pageerror", (error) => messages.push(error.message))
    page.on("request", (request) => requests.push(request.url()))
    yield* Effect.promise(() => page.goto(url))
    const seen: Seen = { page, messages, requests }
    return seen
  })
