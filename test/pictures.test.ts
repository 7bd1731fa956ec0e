import { globSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { usualRate } from "../examples/demo/demo.ts"
import { pictures } from "../scripts/pictures.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

describe("the pictures of the documentation", () => {
  it("are the ones that scripts/pictures.ts draws", () => {
    const files = globSync("docs/pictures/*.svg", { cwd: root })
    expect(Object.fromEntries(files.map((file) => [basename(file), readFileSync(join(root, file), "utf8")])))
      .toEqual(pictures)
  })

  it("are each shown on a page", () => {
    const pages = globSync(["README.md", "docs/*.md"], { cwd: root }).map((page) =>
      readFileSync(join(root, page), "utf8")
    )
    expect(Object.keys(pictures).filter((name) => !pages.some((page) => page.includes(`pictures/${name})`)))).toEqual(
      []
    )
  })

  it("show in README.md what its command sends: the last load of the demo's picture is that of `npm run demo`", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8")
    expect(pictures["demo.svg"]).toContain(`Answered in time at ${usualRate} requests a second`)
    expect(readme).toContain(`![At ${usualRate} requests a second`)
    expect(readme).toContain(`\`npm run demo\` sends ${usualRate} requests a second`)
  })
})
