/** The cost of importing a module: CPU of a process that only imports it, minus that of an empty process. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { median } from "../harness.ts"

export interface Import {
  readonly contender: string
  readonly millis: number
}

const modules: ReadonlyArray<readonly [contender: string, code: string]> = [
  ["node alone", ""],
  ["effect/Effect", `import "effect/Effect"`],
  ["effect/RequestResolver", `import "effect/RequestResolver"`],
  ...["Reducer", "RateLimiter", "Scheduler", "Batcher", "index"].map((name) =>
    [`effect-funnel/${name}`, `import "./dist/${name}.js"`] as const
  )
]

const cpu = (code: string): number => {
  const report = `process.once("exit", () => { const c = process.cpuUsage(); console.log((c.user + c.system) / 1000) })`
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", `${code};${report}`], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    encoding: "utf8"
  })
  return Number(stdout)
}

export const run = (times: number): ReadonlyArray<Import> => {
  const taken = new Map<string, Array<number>>(modules.map(([contender]) => [contender, []]))
  for (let i = 0; i < times; i++) {
    for (const [contender, code] of modules) taken.get(contender)!.push(cpu(code))
  }
  const alone = median(taken.get("node alone")!)
  return modules.map(([contender]) => ({
    contender,
    millis: median(taken.get(contender)!) - (contender === "node alone" ? 0 : alone)
  }))
}
