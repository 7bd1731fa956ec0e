import { rmSync } from "node:fs"
import { defineConfig, type Options } from "tsup"
import { writePage } from "./scripts/page.ts"

// The page of the dashboard is one module of text: its sources are bundled into that.
await writePage()
const page = "src/internal/dashboard/bundle.ts"

rmSync("dist", { recursive: true, force: true })
const options: Options = { format: "esm", target: "es2022", bundle: false, silent: true }

// One output file per module, so that a program pays only for the services it imports.
export default defineConfig([
  {
    ...options,
    entry: ["src/**/*.ts", "!src/internal/dashboard/page/**", `!${page}`],
    sourcemap: true,
    // The maps name the files of src, which are in the package.
    esbuildOptions: (options) => {
      options.sourcesContent = false
    }
  },
  // The package contains this text once, and the sources from which it was made.
  { ...options, entry: [page], outDir: "dist/internal/dashboard" }
])
