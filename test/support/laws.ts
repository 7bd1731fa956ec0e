import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Law } from "../../src/stores/laws.js"

/** A test for each law, on the real clock. */
export const checked = (store: string, laws: ReadonlyArray<Law>): void => {
  describe(`of ${store}`, () => {
    for (const { check, title } of laws) it.live(title, () => Effect.scoped(check))
  })
}
