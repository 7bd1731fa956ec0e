import { defineConfig } from "tsup"

// One output file per module, so that a program pays only for the services it imports.
export default defineConfig({
  entry: ["src/**/*.ts"],
  format: "esm",
  target: "es2022",
  bundle: false,
  sourcemap: true,
  clean: true,
  silent: true
})
