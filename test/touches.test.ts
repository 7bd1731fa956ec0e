import { expect, it } from "vitest"
import { judgeTouches } from "../scripts/checkTouches.ts"

const page = (rows: string) => `| entry point | network | disk | environment | other |\n|---|---|---|---|---|\n${rows}`
const problems = (rows: string, files: Readonly<Record<string, string>>) =>
  judgeTouches(page(rows), Object.keys(files).filter((name) => !name.startsWith("internal/")), (name) => files[name]!)

it("the table of what entry points touch names all of them, and none that is gone", () => {
  expect(problems("| `A`, `b/*` | none | none | none | – |", { A: "", "b/C": "" })).toEqual([])
  expect(problems("| `A`, `B` | none | none | none | – |", { A: "", C: "" })).toEqual([
    "SECURITY.md: C is in no row: say there what it may touch",
    "SECURITY.md: there is no B"
  ])
})

it("a cell is none exactly if no import of the entry point reaches there", () => {
  const files = {
    A: `import { b } from "./internal/b.js"`,
    "internal/b": `import * as Http from "effect/http/HttpClient"\n// process.env\nexport const b = process.env.HOME`
  }
  expect(problems("| `A` | your client | none | a variable | – |", files)).toEqual([])
  expect(problems("| `A` | none | a file | none | – |", files)).toEqual([
    "SECURITY.md: A can touch the network: A → internal/b → effect/http/HttpClient",
    "SECURITY.md: A cannot touch the disk",
    "SECURITY.md: A can touch the environment: A → internal/b"
  ])
})
