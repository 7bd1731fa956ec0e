/** Opens the built site in Chromium, as a reader does. */
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import type { Page } from "playwright-core"
import { launch, serve } from "./browser.ts"

/** Returns the links of the built pages that lead to no page, or to no place in a page. */
const deadLinks = (dist: string): ReadonlyArray<string> => {
  const pages = new Map(
    globSync("**/*.html", { cwd: dist }).map((page) => {
      const html = readFileSync(join(dist, page), "utf8")
      return [page, { html, ids: new Set(Array.from(html.matchAll(/ id="([^"]+)"/g), ([, id]) => id!)) }]
    })
  )
  const problems: Array<string> = []
  for (const [page, { html, ids }] of pages) {
    for (const [, to] of new Set(Array.from(html.matchAll(/<a [^>]*href="([^"]+)"/g), (_) => _))) {
      if (/^\w+:/.test(to!)) continue
      const [path, anchor] = to!.split("#")
      const file = path === ""
        ? page
        : normalize(join(path!.startsWith("/") ? "" : dirname(page), path!)).replace(/^\//, "")
      const target = file === "" || file.endsWith("/") ? `${file}index.html` : file
      const there = pages.get(target) ?? pages.get(`${target}.html`)
      if (there === undefined) problems.push(`${page}: ${to} is not there`)
      else if (
        anchor !== undefined && anchor !== "" && !(path === "" ? ids : there.ids).has(decodeURIComponent(anchor))
      ) {
        problems.push(`${page}: ${to} has no such place`)
      }
    }
  }
  return problems
}

/** Returns the problems. */
export const checkSite = async (dist: string): Promise<ReadonlyArray<string>> => {
  const [server, browser] = await Promise.all([serve(dist), launch()])
  const problems: Array<string> = []
  const step = async (what: string, f: () => Promise<ReadonlyArray<string>>) => {
    const found = await f().catch((error: Error) => [error.message])
    console.log(`${found.length === 0 ? "ok    " : "FAILED"} ${what}`)
    problems.push(...found.map((problem) => `${what}: ${problem}`))
  }
  /** Opens a page of its own and returns what should not happen in it. */
  const open = async (path: string, visit: (page: Page) => Promise<ReadonlyArray<string>>) => {
    const page = await browser.newPage({ colorScheme: "light" })
    const found: Array<string> = []
    page.on("console", (message) => found.push(`the console says ${message.text()}`))
    page.on("pageerror", (error) => found.push(`it throws ${error}`))
    page.on("request", (request) => {
      const url = request.url()
      if (!url.startsWith(server.origin) && !url.startsWith("data:")) found.push(`it asks for ${url}`)
    })
    page.on("response", (response) => {
      if (response.status() >= 400) found.push(`${response.url()} answers ${response.status()}`)
    })
    await page.goto(`${server.origin}${path}`, { waitUntil: "networkidle" })
    found.push(...await visit(page))
    await page.close()
    return found
  }
  const shows = (path: string, heading: string) =>
    open(path, async (page) => {
      const text = await page.locator("main h1").first().innerText()
      return text.includes(heading) ? [] : [`its heading is ${text}`]
    })
  try {
    await step("no link leads nowhere", async () => deadLinks(dist))
    await step("the front page", () => shows("/", "effect-funnel"))
    await step("a guide", () => shows("/docs/scheduler.html", "Scheduler"))
    await step("a page of the API", () => shows("/api/Scheduler/variables/schedule.html", "schedule"))
    await step("a picture of a guide", () =>
      open("/docs/interruption.html", async (page) => {
        const widths = await page.evaluate<ReadonlyArray<number>>(
          "Array.from(document.querySelectorAll('main img'), (image) => image.naturalWidth)"
        )
        return widths.length > 0 && widths.every((width) => width > 0) ? [] : [`widths ${widths.join(", ")}`]
      }))
    await step("the search finds a word and opens its page", () =>
      open("/", async (page) => {
        await page.keyboard.press("Control+k")
        await page.locator("#localsearch-input").fill("penalize")
        const results = page.locator("#localsearch-list .result")
        await results.first().waitFor()
        const title = await results.first().innerText()
        await results.first().click()
        await page.waitForURL((url) => url.pathname !== "/")
        return /penalize/i.test(title) ? [] : [`the first result is ${title}`]
      }))
    await step("dark and light", () =>
      open("/", async (page) => {
        const colour = () => page.evaluate<string>("getComputedStyle(document.body).backgroundColor")
        const light = await colour()
        await page.locator(".VPNavBarAppearance button, .VPSwitchAppearance").first().click()
        await page.waitForFunction("document.documentElement.classList.contains('dark')")
        const dark = await colour()
        return light === dark ? [`both are ${light}`] : []
      }))
  } finally {
    await browser.close()
    await server.close()
  }
  for (const problem of problems) console.error(problem)
  return problems
}
