import { afterAll, describe, it } from "vitest"
import { hasRedis } from "../support/redisServer.js"
import { cases } from "./faults/cases.js"
import { cleanUp, Stage } from "./faults/harness.js"

// Real processes and a real server. The slow cases run with `npm run test:faults`.
describe.skipIf(!hasRedis)("faults", () => {
  afterAll(cleanUp)
  for (const { id, name, quick, run } of cases) {
    if (quick !== true) continue
    it(`${id} ${name}`, async () => {
      const stage = new Stage()
      try {
        await run(stage)
      } finally {
        await stage.end()
      }
    })
  }
})
