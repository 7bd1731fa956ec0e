import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import * as Behaviours from "../scripts/compare/behaviours.ts"
import * as Figures from "../scripts/compare/figures.ts"
import * as Requests from "../scripts/compare/requests.ts"

const behaviours = [...Behaviours.rows, ...Requests.rows]

describe("the comparison with effect's own parts", () => {
  it.for(behaviours)("$part: $what: Funnel does what the table says", async (row) => {
    expect(await row.funnel()).toMatchObject({ holds: true })
  })

  it("names a test for each row", () => {
    const root = new URL("..", import.meta.url)
    const named = [...behaviours, ...Figures.rows].map((row) => row.test)
    expect(named.filter((test) => !existsSync(fileURLToPath(new URL(test, root))))).toEqual([])
  })
})
