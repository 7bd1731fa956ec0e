/**
 * The description of a cycle in messages.
 */
import { format } from "effect/Formatter"
import type { Node } from "./waits.js"

/** A run, a job or a batch that waits for the next one. */
export interface Step {
  readonly kind: "run" | "job" | "batch"
  /** Of a run the name of the function, of a job that of the scheduler, of a batch that of the resolver. */
  readonly name: string | undefined
  /** The key of a run, or the request of a batch. */
  readonly key: unknown
}

/**
 * The steps of a cycle, the first one again at the end. A call that is made in a job begins with the run or batch around
 * it, where it is that which waits for the job.
 */
export const stepsOf = (
  cycle: ReadonlyArray<Node>,
  isTold: (node: Node, next: Node) => boolean
): ReadonlyArray<Step> => {
  const nodes = cycle.slice(1).filter((node, i, nodes) => isTold(node, nodes[(i + 1) % nodes.length]!))
  // Jobs alone make no cycle: what a fiber waits for is a run or a batch.
  let last = nodes.length - 1
  while (nodes[last]!.kind === "job") last--
  const steps = nodes.map(({ key, kind, name }): Step => ({ kind, name, key }))
  return [...steps.slice(last), ...steps.slice(0, last + 1)]
}

export const formatSteps = (steps: ReadonlyArray<Step>): string =>
  steps.map(({ key, kind, name }) => {
    if (kind === "run" || key !== undefined) return name === undefined ? format(key) : `${name} ${format(key)}`
    return `a ${kind} of ${name}`
  }).join(" -> ")
