import { describe, expect, it } from "vitest"
import { draw, judge } from "../scripts/checkArchitecture.ts"

const problems = (modules: Record<string, string>) =>
  judge(new Map(Object.entries(modules)), new Set(["effect", "effect/persistence"])).problems

describe("the architecture check", () => {
  it("accepts imports that point down", () => {
    expect(problems({
      "index": `export * as Batcher from "./Batcher.js"`,
      "Batcher": `import * as Effect from "effect/Effect"\nimport * as Scheduler from "./Scheduler.js"`,
      "Scheduler": `import type { A } from "./RateLimiter.js"\nimport { B } from "./internal/data/queue.js"`,
      "RateLimiter": `import * as Gcra from "./internal/limiter/gcra.js"`,
      "Reducer": `import * as Hooks from "./Hooks.js"`,
      "Hooks": "",
      "redis/NodeRedis": `import "node:net"\nimport * as B from "./Store.js"\nimport * as C from "../Scheduler.js"`,
      "redis/Store": `import * as A from "../internal/data/queue.js"`,
      "internal/data/queue": "",
      "internal/limiter/gcra": ""
    })).toEqual([])
  })

  it.for<[rule: RegExp, modules: Record<string, string>]>([
    [/Reducer.ts may not reach Scheduler/, { Reducer: `import "./Scheduler.js"`, Scheduler: "" }],
    [/RateLimiter.ts may not reach Scheduler/, {
      RateLimiter: `import type { A } from "./Scheduler.js"`,
      Scheduler: ""
    }],
    [/RateLimiter.ts may not reach Hooks: RateLimiter → internal\/data\/a → Hooks/, {
      "RateLimiter": `import "./internal/data/a.js"`,
      "internal/data/a": `export * from "../../Hooks.js"`,
      "Hooks": ""
    }],
    [/a cycle: Scheduler → internal\/data\/a → Scheduler/, {
      "Scheduler": `import "./internal/data/a.js"`,
      "internal/data/a": `import type { A } from "../../Scheduler.js"`
    }],
    [/Hooks.ts may not reach Reducer/, { Hooks: `export * as Reducer from "./Reducer.js"`, Reducer: "" }],
    [/Hooks.ts may not reach Reducer/, { Hooks: `type A = import("./Reducer.js").A`, Reducer: "" }],
    [/no module imports src\/index/, { Hooks: `import "./index.js"`, index: "" }],
    [/ends in .js/, { Reducer: `import "./Hooks.ts"`, Hooks: "" }],
    [/no such module/, { Reducer: `import "./Hook.js"` }],
    [/named for Node/, { Hooks: `import "node:fs"` }],
    [/named for Node/, { Hooks: `import "@effect/platform-node/NodeRedis"` }],
    [/a barrel/, { Hooks: `import { Effect } from "effect"` }],
    [/a barrel/, { Hooks: `import { Redis } from "effect/persistence"` }],
    [/only dependency/, { Hooks: `const a = await import("p-limit")` }],
    [/itself by name/, { Hooks: `import "effect-funnel/Reducer"` }],
    [/imports nothing/, { "internal/limiter/gcra": `import "effect/Clock"` }],
    [/say in scripts/, { Unknown: "" }],
    [/internal\/data\/a.ts imports Hooks: nothing in internal/, {
      "internal/data/a": `import type { A } from "../../Hooks.js"`,
      "Hooks": ""
    }],
    [/data does not stand above limiter/, {
      "internal/data/a": `import type { A } from "../limiter/b.js"`,
      "internal/limiter/b": ""
    }],
    [/is in no room/, { "internal/a": "" }],
    [/is in no room/, { "internal/attic/a": "" }]
  ])("refuses: %s", ([rule, modules]) => {
    expect(problems(modules).join("\n")).toMatch(rule)
  })

  it("draws the imports between rooms, and none that a longer way implies", () => {
    const { graph } = judge(
      new Map(Object.entries({
        "Scheduler": `import "./internal/scheduler/a.js"\nimport "./internal/data/a.js"`,
        "internal/scheduler/a": `import "./b.js"`,
        "internal/scheduler/b": `import "../data/a.js"`,
        "internal/data/a": ""
      })),
      new Set()
    )
    expect(draw(graph).split("\n").slice(2, -1)).toEqual([
      `  Scheduler["Scheduler"] --> internal_scheduler["internal/scheduler"]`,
      `  internal_scheduler["internal/scheduler"] --> internal_data["internal/data"]`
    ])
  })
})
