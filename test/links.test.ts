import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { expect, it } from "vitest"
import { anchorsOf, checkLinks, linksOf } from "../scripts/checkLinks.ts"

/** Returns the problems of a project that consists of these files. */
const problems = (files: Readonly<Record<string, string>>) => {
  const root = mkdtempSync(join(tmpdir(), "links-"))
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true })
      writeFileSync(join(root, name), text)
    }
    return checkLinks(root).problems
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

it("links are found in text, pictures and HTML, with their lines, and not in code", () => {
  const fence = "```"
  const text =
    `[a](b.md) and\n![c](d.svg "title")\n${fence}ts\n[no](no.md)\n${fence}\n\n<img src="e.png"> \`[no](no)\`\n[f]: g.md`
  expect(linksOf(text)).toEqual([
    { to: "b.md", line: 1 },
    { to: "d.svg", line: 2 },
    { to: "e.png", line: 7 },
    { to: "g.md", line: 8 }
  ])
})

it("headings have the anchors that GitHub gives them, repeated ones with a number", () => {
  expect([...anchorsOf("# A `b`, c!\n## [Link](x.md) it\n## Same\n## Same\n```\n# no\n```\n")]).toEqual([
    "a-b-c",
    "link-it",
    "same",
    "same-1"
  ])
})

it("a link to no file, to no heading or to no address is a problem with its line", () => {
  const page =
    "# Here\n[a](docs/b.md#there) [b](#here) [c](https://effect.website)\n![d](e.svg)\n[f](#gone)\n[g](https://nowhere)"
  expect(problems({ "README.md": page, "docs/b.md": "# There\n[h](../README.md#here)\n[i](../../out.md)" })).toEqual([
    "README.md:3 \"e.svg\" leads nowhere",
    "README.md:4 \"#gone\" leads to no heading",
    "README.md:5 \"https://nowhere\" is no address",
    "docs/b.md:3 \"../../out.md\" leads nowhere"
  ])
})

it("a docblock links to exports of its module and to pages that are there", () => {
  const docs =
    "/**\n * {@link make} {@link gone}, `docs/a.md`, `docs/b.md`\n * [c](no.md)\n */\nexport const make = [1](2)"
  expect(problems({ "docs/a.md": "# A", "src/M.ts": docs })).toEqual([
    "src/M.ts:2 \"gone\" names no export",
    "src/M.ts:2 \"docs/b.md\" leads nowhere",
    "src/M.ts:3 \"no.md\" leads nowhere"
  ])
})
