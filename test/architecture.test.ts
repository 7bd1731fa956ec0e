import { describe, expect, it } from "vitest"
import { judge } from "../scripts/checkArchitecture.ts"

const problems = (modules: Record<string, string>) =>
  judge(new Map(Object.entries(modules)), new Set(["effect", "effect/persistence"])).problems

describe("the architecture check", () => {
  it("accepts imports that point down", () => {
    expect(problems({
      "index": `export * as Batcher from "./Batcher.js"`,
      "Batcher": `import * as Effect from "effect/Effect"\nimport * as Scheduler from "./Scheduler.js"`,
      "Scheduler": `import type { A } from "./RateLimiter.js"\nimport { B } from "./internal/queue.js"`,
      "RateLimiter": `import * as Gcra from "./internal/gcra.js"`,
      "Reducer": `import * as Hooks from "./Hooks.js"`,
      "Hooks": "",
      "redis/NodeRedis": `import "node:net"\nimport * as B from "./Store.js"\nimport * as C from "../Scheduler.js"`,
      "redis/Store": `import * as A from "../internal/queue.js"`,
      "internal/queue": "",
      "internal/gcra": ""
    })).toEqual([])
  })

  it.for<[rule: RegExp, modules: Record<string, string>]>([
    [/Reducer.ts may not reach Scheduler/, { Reducer: `import "./Scheduler.js"`, Scheduler: "" }],
    [/RateLimiter.ts may not reach Scheduler/, {
      RateLimiter: `import type { A } from "./Scheduler.js"`,
      Scheduler: ""
    }],
    [/RateLimiter.ts may not reach Hooks: RateLimiter → internal\/a → Hooks/, {
      "RateLimiter": `import "./internal/a.js"`,
      "internal/a": `export * from "../Hooks.js"`,
      "Hooks": ""
    }],
    [/a cycle: Scheduler → internal\/a → Scheduler/, {
      "Scheduler": `import "./internal/a.js"`,
      "internal/a": `import type { A } from "../Scheduler.js"`
    }],
    [/no module imports src\/index/, { Hooks: `import "./index.js"`, index: "" }],
    [/ends in .js/, { Reducer: `import "./Hooks.ts"`, Hooks: "" }],
    [/no such module/, { Reducer: `import "./Hook.js"` }],
    [/named for Node/, { Hooks: `import "node:fs"` }],
    [/named for Node/, { Hooks: `import "@effect/platform-node/NodeRedis"` }],
    [/a barrel/, { Hooks: `import { Effect } from "effect"` }],
    [/a barrel/, { Hooks: `import { Redis } from "effect/persistence"` }],
    [/only dependency/, { Hooks: `const a = await import("p-limit")` }],
    [/itself by name/, { Hooks: `import "effect-funnel/Reducer"` }],
    [/imports nothing/, { "internal/gcra": `import "effect/Clock"` }],
    [/say in scripts/, { Unknown: "" }]
  ])("refuses: %s", ([rule, modules]) => {
    expect(problems(modules).join("\n")).toMatch(rule)
  })
})
