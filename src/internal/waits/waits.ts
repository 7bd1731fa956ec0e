/**
 * Who waits for whom: one graph for runs, jobs and batches.
 *
 * A fiber belongs to at most one node, the innermost, which it finds in its context. There is an edge from a node to
 * another while a fiber of the one waits for the end of the other. Being in a queue is no edge: a queued job waits for
 * *any* permit, and what it waits for is not known.
 *
 * Adding and removing an edge costs O(1). What searches does so from nodes only: who is in none pays nothing.
 */
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"

/** What fibers belong to, and wait for. */
export interface Node {
  readonly kind: "run" | "job" | "batch"
  /** It waits for nothing any more, and nothing waits for it. */
  readonly ended: boolean
  /** Whom its fibers belong to once it has ended: a job runs in a fiber of another node, runs and batches in their own. */
  readonly outer: Node | undefined
  /** What its fibers wait for, and who waits for it. */
  waits: Edge | undefined
  waiters: Edge | undefined
  mark: number
  /** It is in a queue, and those above it are others than before. */
  reviewUnsafe?(): void
}

/** The node that a fiber belongs to. It may have ended. */
export const CurrentNode: Context.Reference<Node | undefined> = /*#__PURE__*/ Context.Reference<Node | undefined>(
  "effect-funnel/CurrentNode",
  { defaultValue: () => undefined }
)

/** The innermost node around a context that has not ended. */
export const nodeOf = (context: Context.Context<never>): Node | undefined =>
  liveNode(Context.getOrUndefined(context, CurrentNode))

export const liveNode = (node: Node | undefined): Node | undefined => {
  while (node !== undefined && node.ended) node = node.outer
  return node
}

/**
 * Whether somebody may wait for a fiber. One that was just forked to run at once is asked a turn later: who forks it
 * observes it after its first step. Only core knows: where it no longer says, the answer is yes.
 */
export const isAwaited = (fiber: Fiber.Fiber<unknown, unknown>): boolean => {
  if (!hasProperty(fiber, "_observers") || !hasProperty(fiber, "_parent") || fiber._parent !== undefined) return true
  return fiber._observers !== undefined && (!Array.isArray(fiber._observers) || fiber._observers.length > 0)
}

/** A fiber of `from` waits for the end of `to`. */
export class Edge {
  from: Node | undefined
  readonly to: Node
  prevOut: Edge | undefined = undefined
  nextOut: Edge | undefined
  prevIn: Edge | undefined = undefined
  nextIn: Edge | undefined

  constructor(from: Node, to: Node) {
    this.from = from
    this.to = to
    const out = this.nextOut = from.waits
    if (out !== undefined) out.prevOut = this
    from.waits = this
    const into = this.nextIn = to.waiters
    if (into !== undefined) into.prevIn = this
    to.waiters = this
  }

  /** Whether it was still there. */
  remove(): boolean {
    const { from, nextIn, nextOut, prevIn, prevOut } = this
    if (from === undefined) return false
    if (prevOut === undefined) from.waits = nextOut
    else prevOut.nextOut = nextOut
    if (nextOut !== undefined) nextOut.prevOut = prevOut
    if (prevIn === undefined) this.to.waiters = nextIn
    else prevIn.nextIn = nextIn
    if (nextIn !== undefined) nextIn.prevIn = prevIn
    this.from =
      this.prevOut =
      this.nextOut =
      this.prevIn =
      this.nextIn =
        undefined
    return true
  }
}

/** The node has ended: nobody waits for it, and its fibers belong to whom it was in. */
export const endUnsafe = (node: Node): void => {
  while (node.waiters !== undefined) node.waiters.remove()
  if (node.waits === undefined) return
  const heir = liveNode(node.outer)
  const left: Array<Node> = []
  for (let edge: Edge | undefined = node.waits; edge !== undefined; edge = node.waits) {
    edge.remove()
    left.push(edge.to)
    if (heir === undefined) continue
    edge.from = heir
    edge.nextOut = heir.waits
    if (heir.waits !== undefined) heir.waits.prevOut = edge
    heir.waits = edge
    edge.nextIn = edge.to.waiters
    if (edge.to.waiters !== undefined) edge.to.waiters.prevIn = edge
    edge.to.waiters = edge
  }
  for (const to of left) reviewBelow(to)
}

let epoch = 0

/** All that wait for a node, itself included, each once; `visit` says whether to go on to those above it. */
export const above = (node: Node, visit: (node: Node) => boolean): void => {
  const mark = ++epoch
  const nodes = [node]
  node.mark = mark
  for (let i = 0; i < nodes.length; i++) {
    if (!visit(nodes[i]!)) continue
    for (let edge = nodes[i]!.waiters; edge !== undefined; edge = edge.nextIn) {
      const from = edge.from!
      if (from.mark === mark) continue
      from.mark = mark
      nodes.push(from)
    }
  }
}

export const isAbove = (node: Node, is: (node: Node) => boolean): boolean => {
  let found = false
  above(node, (node) => {
    found ||= is(node)
    return !found
  })
  return found
}

/** Those in queues that a node waits for are told that it came, or went. */
export const reviewBelow = (node: Node): void => {
  if (node.waits === undefined && node.reviewUnsafe === undefined) return
  const mark = ++epoch
  const nodes = [node]
  node.mark = mark
  for (let i = 0; i < nodes.length; i++) {
    for (let edge = nodes[i]!.waits; edge !== undefined; edge = edge.nextOut) {
      if (edge.to.mark === mark) continue
      edge.to.mark = mark
      nodes.push(edge.to)
    }
  }
  for (const node of nodes) node.reviewUnsafe?.()
}

/**
 * Whether `to` waits for `from`, so that `from` must not wait for it. Searches from both sides by turns: it costs what
 * the smaller side costs.
 */
export const closes = (from: Node, to: Node): boolean => {
  if (from === to) return true
  if (from.waiters === undefined || to.waits === undefined) return false
  const up = ++epoch
  const down = ++epoch
  const over = [from]
  const under = [to]
  from.mark = up
  to.mark = down
  for (let i = 0; i < over.length && i < under.length; i++) {
    for (let edge = over[i]!.waiters; edge !== undefined; edge = edge.nextIn) {
      const node = edge.from!
      if (node.mark === down) return true
      if (node.mark === up) continue
      node.mark = up
      over.push(node)
    }
    for (let edge = under[i]!.waits; edge !== undefined; edge = edge.nextOut) {
      const node = edge.to
      if (node.mark === up) return true
      if (node.mark === down) continue
      node.mark = down
      under.push(node)
    }
  }
  return false
}

/** The cycle that an edge would close, from the node that waits to itself. For messages: it costs what it costs. */
export const cycleOf = (from: Node, to: Node): ReadonlyArray<Node> => {
  const came = new Map<Node, Node>([[to, from]])
  for (const node of came.keys()) {
    if (node === from) break
    for (let edge = node.waits; edge !== undefined; edge = edge.nextOut) {
      if (!came.has(edge.to)) came.set(edge.to, node)
    }
  }
  const path = [from]
  let node = from
  do path.unshift(node = came.get(node)!)
  while (node !== from)
  return path
}
