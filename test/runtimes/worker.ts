/** What vitest looks for in the global of the process that it runs in. Import it before vitest. */
export const config = {
  root: "/",
  name: "",
  allowOnly: false,
  expect: {},
  experimental: {},
  hookTimeout: 60_000,
  includeTaskLocation: false,
  maxConcurrency: 5,
  passWithNoTests: false,
  repeats: 0,
  retry: 0,
  sequence: { concurrent: false, hooks: "stack", seed: 1, setupFiles: "list", shuffle: false },
  setupFiles: [],
  snapshotOptions: {},
  strictTags: true,
  tags: [],
  testTimeout: 60_000
}

Object.assign(globalThis, {
  __vitest_worker__: {
    config,
    ctx: { pool: "threads" },
    environment: { name: "none" },
    filepath: "/",
    onCleanup: () => {},
    providedContext: {},
    resolvingModules: new Set()
  }
})
