/**
 * Runs test files in the process or page that imports this module, with vitest's own runner and no part of vitest that
 * needs Node. `scripts/runtimes.ts` bundles it with the files.
 */
import { config } from "./worker.ts"

import { startTests } from "vitest/internal/browser"
import { mark, type Report } from "./report.ts"

interface Task {
  readonly type: string
  readonly name: string
  readonly mode: string
  readonly tasks?: ReadonlyArray<Task>
  readonly result?: {
    readonly state?: string
    readonly errors?: ReadonlyArray<{ readonly message?: string; readonly stack?: string; readonly diff?: string }>
  }
}

export const run = async (files: Readonly<Record<string, () => Promise<unknown>>>): Promise<void> => {
  const started = performance.now()
  const runner = {
    config,
    pool: "threads",
    importFile: (file: string) => files[file]!(),
    onBeforeRunTask: ({ file, name }: { readonly file: Task; readonly name: string }) => {
      console.log(`${file.name} > ${name}`)
    }
  }
  // The runner's type asks for the whole configuration of vitest; the runner reads these parts of it.
  const done = await startTests(Object.keys(files), runner as unknown as Parameters<typeof startTests>[1])
  let passed = 0
  const failures: Array<Report["failures"][number]> = []
  const visit = (task: Task, path: string): void => {
    const errors = task.result?.errors ?? []
    const title = path === "" ? task.name : `${path} > ${task.name}`
    if (task.type === "test" && task.result?.state === "pass") passed++
    else if (task.type === "test" ? task.mode !== "skip" : errors.length > 0) {
      const error = errors.map(({ diff = "", message = "", stack = "" }) => [message, diff, stack].join("\n")).join(
        "\n"
      )
      failures.push({ title, error: error === "" ? `ended as ${task.result?.state}` : error })
    }
    for (const inner of task.tasks ?? []) visit(inner, title)
  }
  for (const file of done as ReadonlyArray<Task>) visit(file, "")
  const report: Report = { passed, failures, milliseconds: performance.now() - started }
  console.log(`${mark}${JSON.stringify(report)}`)
}
