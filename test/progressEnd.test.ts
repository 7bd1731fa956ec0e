import { expect, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { vi } from "vitest"
import * as Progress from "../src/progress.js"
import type { Progress as Made } from "../src/Scheduler.js"

const made = (done: number): Made => ({ total: 4, done, failed: 0, running: 0, queued: 0, rate: 1, eta: undefined })

it.effect("A call that goes on after the scope has closed writes nothing any more, and begins no bar", () =>
  Effect.gen(function*() {
    for (const isTTY of [true, false]) {
      for (const before of [true, false]) {
        const written: Array<string> = []
        const wasTTY = process.stderr.isTTY
        const write = vi.spyOn(process.stderr, "write").mockImplementation((text) => written.push(String(text)) > 0)
        Object.assign(process.stderr, { isTTY })
        try {
          const scope = yield* Scope.make()
          const onProgress = yield* Scope.provide(Progress.bar(), scope)
          if (before) onProgress(made(1))
          yield* Scope.close(scope, Exit.void)
          expect(written.length > 0).toBe(before)
          written.length = 0
          for (const done of [2, 3, 4]) onProgress(made(done))
          expect(written).toEqual([])
        } finally {
          Object.assign(process.stderr, { isTTY: wasTTY })
          write.mockRestore()
        }
      }
    }
  }))
