/**
 * The wait-for graph of runs, jobs and batches.
 *
 * A fiber belongs to at most one node, the innermost, which it finds in its context. There is an edge from one node to
 * another while a fiber of the first waits for the end of the second. The node that a job was made in waits for the job:
 * that takes no edge. Waiting in a queue is no edge, because a queued job waits for *any* permit.
 *
 * Adding and removing an edge costs O(1), and a search upwards while jobs wait in runs or batches. Every search starts at a
 * node, so a fiber outside of all nodes pays nothing.
 */
import * as Context from "effect/Context"
import { join, leave, type Linked } from "../data/list.js"

/** Fibers belong to a node, and wait for nodes. */
export interface Node {
  readonly kind: "run" | "job" | "batch"
  /** Its name in messages. */
  readonly name?: string | undefined
  readonly key?: unknown
  /** It waits for nothing any more, and nothing waits for it. */
  readonly ended: boolean
  /** Of a job: the node that it was made in. That node waits for the job, and inherits its fibers. */
  readonly outer: Node | undefined
  /** The waits of its fibers: a list. */
  waits: Edge | undefined
  /** The waits for it: a ring. */
  waiters: Edge | undefined
  /** The jobs made in it, one list for each scheduler. */
  inside: Inside | undefined
  mark: number
  /** Called when a node below may wait for more, or for less. It must start nothing in this step. */
  stirUnsafe?(): void
}

/** The jobs of one scheduler that were made in a node. One that is queued has no fibers, so no path leads through it. */
export interface Inside {
  /** Of another scheduler, in the same node. */
  sibling: Inside | undefined
  /** Those that run: a ring. */
  first: Inner | undefined
  /** The node has ended: its jobs pass to the heir, if there is one. */
  passUnsafe(heir: Node | undefined): void
}

/** A job that runs in a node. */
export interface Inner extends Node, Linked<Inner> {}

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

/** Changes that schedulers watch. These are counts only, so they keep nothing in memory. */
export const changes = {
  /** How often a path was added, or taken away. */
  added: 0,
  removed: 0,
  /**
   * How many hear of each new path: queued jobs that may run in the width of a job that waits for a run or a batch, jobs that
   * run in the width of one that they were not made in, and fibers that wait until a scheduler is idle but for those around.
   */
  listeners: 0,
  /** How many widths have a first job that does not fit. */
  blocked: 0
}

/** A fiber of `from` waits for the end of `to`. */
export class Edge implements Linked<Edge> {
  from: Node | undefined
  readonly to: Node
  /** Its neighbours among those of `from`. */
  prevOut: Edge | undefined = undefined
  nextOut: Edge | undefined = undefined
  /** Its neighbours among those that wait for `to`. */
  left: Edge | undefined = undefined
  right: Edge | undefined = undefined

  constructor(from: Node, to: Node) {
    this.from = from
    this.to = to
    this.link(from)
  }

  /** Whether it was still there. */
  remove(): boolean {
    const { from } = this
    if (from === undefined) return false
    this.unlink(from)
    this.from = undefined
    return true
  }

  /** The heir waits in the place of the node. */
  pass(heir: Node): void {
    this.unlink(this.from!)
    this.from = heir
    this.link(heir)
  }

  private link(from: Node): void {
    const { to } = this
    const out = this.nextOut = from.waits
    if (out !== undefined) out.prevOut = this
    from.waits = this
    join(to.waiters, this)
    to.waiters = this
    changes.added++
    if (changes.listeners > 0 && (to.waits !== undefined || to.inside !== undefined)) {
      stirAbove(from)
    }
  }

  private unlink(from: Node): void {
    const { nextOut, prevOut, to } = this
    if (prevOut === undefined) from.waits = nextOut
    else prevOut.nextOut = nextOut
    if (nextOut !== undefined) nextOut.prevOut = prevOut
    to.waiters = leave(to.waiters, this)
    this.prevOut = this.nextOut = undefined
    changes.removed++
    if (changes.blocked > 0) stirAbove(from)
  }
}

/** The node has ended: no node waits for it any more, and its waits and jobs pass to its outer node. */
export const endUnsafe = (node: Node): void => {
  if (node.waiters !== undefined || node.waits !== undefined || node.inside !== undefined) leaveGraph(node)
}

// Apart, so that `endUnsafe` is small enough to be inlined: most nodes have none of these.
const leaveGraph = (node: Node): void => {
  while (node.waiters !== undefined) node.waiters.remove()
  const heir = liveNode(node.outer)
  for (let edge = node.waits; edge !== undefined; edge = node.waits) {
    if (heir === undefined) edge.remove()
    else edge.pass(heir)
  }
  for (let inside = node.inside; inside !== undefined; inside = node.inside) {
    node.inside = inside.sibling
    inside.passUnsafe(heir)
  }
  if (heir === undefined) return
  changes.added++
  stirAbove(heir)
}

let epoch = 0

/** A mark that no node has. */
export const newMark = (): number => ++epoch

const stirAbove = (node: Node): void => above(node, (node) => node.stirUnsafe?.())

/**
 * Visits the nodes that wait for a node, until `visit` takes one. That one comes first the next time, so that those asked
 * in vain are not asked again and again.
 */
const visitWaiters = (node: Node, visit: (node: Node) => boolean): boolean => {
  const outer = liveNode(node.outer)
  if (outer !== undefined && visit(outer)) return true
  const first = node.waiters
  let edge = first
  while (edge !== undefined) {
    if (visit(edge.from!)) {
      node.waiters = edge
      return true
    }
    edge = edge.right
    if (edge === first) break
  }
  return false
}

/** Visits the nodes that a node waits for, except the jobs of `except`, until `visit` takes one. */
export const visitBelow = (node: Node, visit: (node: Node) => boolean, except?: Inside): boolean => {
  for (let edge = node.waits; edge !== undefined; edge = edge.nextOut) if (visit(edge.to)) return true
  for (let inside = node.inside; inside !== undefined; inside = inside.sibling) {
    if (inside === except) continue
    const { first } = inside
    let job = first
    while (job !== undefined) {
      if (visit(job)) return true
      job = job.right
      if (job === first) break
    }
  }
  return false
}

/**
 * Searches upwards from a node, each node once. `visit` returns `true` to take a node, `false` to go on to those above it,
 * and `undefined` not to.
 */
export const findAbove = (node: Node, visit: (node: Node) => boolean | undefined): boolean => {
  const mark = ++epoch
  const nodes = [node]
  node.mark = mark
  const look = (node: Node): boolean => {
    if (node.mark === mark) return false
    node.mark = mark
    const found = visit(node)
    if (found === false) nodes.push(node)
    return found === true
  }
  for (let i = 0; i < nodes.length; i++) if (visitWaiters(nodes[i]!, look)) return true
  return false
}

/** Whether a node, or one that waits for it, is so. */
export const isAbove = (node: Node, is: (node: Node) => boolean): boolean => is(node) || findAbove(node, is)

/** Visits all that wait for a node, itself included, each once. */
export const above = (node: Node, visit: (node: Node) => void): void => {
  isAbove(node, (node) => {
    visit(node)
    return false
  })
}

/** Notes a node as seen from one side. Returns whether the other side has seen it. */
const meets = (node: Node, seen: number, met: number, nodes: Array<Node>): boolean => {
  if (node.mark === met) return true
  if (node.mark !== seen) {
    node.mark = seen
    nodes.push(node)
  }
  return false
}

/**
 * Whether `to` waits for `from`, so that `from` must not wait for it. Searches from both sides by turns: it costs as
 * much as the smaller side.
 */
export const closes = (from: Node, to: Node): boolean => {
  if (from === to) return true
  if (from.waiters === undefined && from.outer === undefined) return false
  if (to.waits === undefined && to.inside === undefined) return false
  const up = ++epoch
  const down = ++epoch
  const over = [from]
  const under = [to]
  from.mark = up
  to.mark = down
  const rise = (node: Node) => meets(node, up, down, over)
  const sink = (node: Node) => meets(node, down, up, under)
  for (let i = 0; i < over.length && i < under.length; i++) {
    if (visitWaiters(over[i]!, rise) || visitBelow(under[i]!, sink)) return true
  }
  return false
}

/** The cycle that an edge would close, from the node that waits to itself. Only for messages. */
export const cycleOf = (from: Node, to: Node): ReadonlyArray<Node> => {
  const came = new Map<Node, Node>([[to, from]])
  for (const node of came.keys()) {
    if (node === from) break
    visitBelow(node, (next) => {
      if (!came.has(next)) came.set(next, node)
      return false
    })
  }
  const path = [from]
  let node = from
  do path.unshift(node = came.get(node)!)
  while (node !== from)
  return path
}
