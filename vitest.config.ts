import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import * as DocExamples from "./scripts/docExamples.ts"
import { writePage } from "./scripts/page.ts"

const src = fileURLToPath(new URL("./src/", import.meta.url))

// The examples of the documentation are tests too.
DocExamples.write()
await writePage()

export default defineConfig({
  resolve: {
    alias: [
      { find: /^effect-funnel$/, replacement: `${src}index.ts` },
      { find: /^effect-funnel\/(.*)$/, replacement: `${src}$1.ts` }
    ]
  },
  test: {
    include: ["test/**/*.test.ts", ".tmp/doc-examples/**/*.test.ts"],
    testTimeout: 20_000,
    // Files share a worker, since a test leaves no state in a module: this halves the time of a run.
    isolate: false,
    // More than there are processors, for many files wait for servers and browsers.
    maxWorkers: Math.ceil(availableParallelism() * 1.5)
  }
})
