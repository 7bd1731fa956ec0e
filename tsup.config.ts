import { rmSync } from "node:fs"
import { defineConfig, type Options } from "tsup"
import { writePage } from "./scripts/page.ts"

// The page of the dashboard is one module of text: its sources are bundled into that.
await writePage()

rmSync("dist", { recursive: true, force: true })
const options: Options = { format: "esm", target: "es2022", silent: true }

// A file for each public module, and for what several of them share. Fewer files are imported faster; a bundler still takes
// only the functions that a program uses.
export default defineConfig([
  {
    ...options,
    entry: ["src/**/*.ts", "!src/index.ts", "!src/internal/**"],
    bundle: true,
    splitting: true,
    sourcemap: true,
    esbuildOptions: (options) => {
      // The maps name the files of src, which are in the package (but for the text of the page, which is there once, in dist).
      options.sourcesContent = false
      options.chunkNames = "internal/[name]-[hash]"
    }
  },
  // Bundled, it would need an object for each module, with everything in it. Bundlers would keep all of that.
  { ...options, entry: ["src/index.ts"], bundle: false }
])
