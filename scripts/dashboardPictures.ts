/**
 * Takes the pictures of docs/dashboard.md from examples/dashboard.ts, in Chromium: `npm run pictures:dashboard`. It takes a
 * minute and a half, since the faults have to show. Each picture has a palette of its own: the package contains them, and is to
 * stay small.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { chromium } from "playwright-core"
import { buildWhenStale } from "./build.ts"
import { installed } from "./installed.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

const address = (example: ChildProcess) =>
  new Promise<string>((resolve, reject) => {
    example.once("exit", (code) => reject(new Error(`The example ended with ${code}.`)))
    example.stdout!.on("data", (text) => {
      const found = /http:\S+/.exec(String(text))
      if (found !== null) resolve(found[0])
    })
  })

const shots = [
  { name: "dashboard-light", colorScheme: "light", width: 1160, height: 820 },
  { name: "dashboard-dark", colorScheme: "dark", width: 1160, height: 820 },
  { name: "dashboard-phone", colorScheme: "dark", width: 380, height: 820 }
] as const

/** The part of sharp that is used here: its own types are only there once it is installed. */
type Sharp = (input: Uint8Array) => {
  png(
    options: { readonly palette: true; readonly quality: number; readonly dither: number; readonly effort: number }
  ): {
    toFile(file: string): Promise<unknown>
  }
}

// Sound: sharp is what the lockfile of this folder names, and the call below is in its documentation.
const sharp = createRequire(join(installed("scripts/palette"), "package.json"))("sharp") as Sharp

await buildWhenStale()
const example = spawn(process.execPath, ["examples/dashboard.ts", "0"], {
  cwd: root,
  stdio: ["ignore", "pipe", "inherit"]
})
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] })
try {
  const url = await address(example)
  const pages = await Promise.all(shots.map(async (shot) => {
    const page = await browser.newPage({ viewport: shot, colorScheme: shot.colorScheme })
    await page.goto(url)
    return { page, name: shot.name }
  }))
  const watched = pages[0]!.page
  await watched.locator("#headline", { hasText: "In the last minute" }).waitFor({ timeout: 120_000 })
  await watched.getByText(/penalty until/).first().waitFor({ timeout: 60_000 })
  for (const { name, page } of pages) {
    await sharp(await page.screenshot())
      // Flat colours and text: dithering would cost bytes and show.
      .png({ palette: true, quality: 85, dither: 0, effort: 10 })
      .toFile(join(root, `docs/pictures/${name}.png`))
  }
} finally {
  await browser.close()
  example.kill("SIGINT")
}
