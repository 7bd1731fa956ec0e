import { defineConfig } from "tsup"
import { writePage } from "./scripts/page.ts"

// The page of the dashboard is one module of text: its sources are bundled into that.
await writePage()

// One output file per module, so that a program pays only for the services it imports.
export default defineConfig({
  entry: ["src/**/*.ts", "!src/internal/dashboard/page/**"],
  format: "esm",
  target: "es2022",
  bundle: false,
  sourcemap: true,
  clean: true,
  silent: true
})
