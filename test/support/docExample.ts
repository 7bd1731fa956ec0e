/** What the examples of the documentation, turned into modules by scripts/docExamples.ts, run with. */
import * as Equal from "effect/Equal"
import { inspect } from "node:util"
import { expect } from "vitest"

/** Asserts `actual // => expected` and hands the value on. */
const check = <A>(actual: A, expected: unknown, where: string): A => {
  if (!Equal.equals(actual, expected)) expect(actual, where).toStrictEqual(expected)
  return actual
}

export type Check = typeof check

/** Runs an example and compares what it prints with the output fence that follows it. */
export const run = (
  load: () => Promise<{ readonly default: (check: Check) => Promise<void> }>,
  output: string | undefined
) =>
async (): Promise<void> => {
  const example = (await load()).default
  if (output === undefined) return example(check)
  const printed: Array<string> = []
  const log = console.log
  console.log = (...args) => {
    printed.push(args.map((arg) => typeof arg === "string" ? arg : inspect(arg)).join(" "))
  }
  try {
    await example(check)
  } finally {
    console.log = log
  }
  expect(printed.join("\n")).toBe(output)
}
