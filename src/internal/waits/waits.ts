/**
 * Who waits for whom: one graph for runs, jobs and batches.
 *
 * A fiber belongs to at most one node, the innermost, which it finds in its context. There is an edge from a node to
 * another while a fiber of the one waits for the end of the other. What a job was made in waits for it: that takes no
 * edge. Being in a queue is no edge: a queued job waits for *any* permit, and what it waits for is not known.
 *
 * Adding and removing an edge costs O(1), and where jobs wait in runs or batches, a look at who is above it. What searches
 * does so from nodes only: who is in none pays nothing.
 */
import * as Context from "effect/Context"

/** What fibers belong to, and wait for. */
export interface Node {
  readonly kind: "run" | "job" | "batch"
  /** What messages call it. */
  readonly name?: string | undefined
  readonly key?: unknown
  /** It waits for nothing any more, and nothing waits for it. */
  readonly ended: boolean
  /** Of a job: what it was made in, which waits for it and to which its fibers belong once it has ended. */
  readonly outer: Node | undefined
  /** What its fibers wait for: a list. */
  waits: Edge | undefined
  /** Who waits for it: a ring. */
  waiters: Edge | undefined
  /** The jobs made in it, one list for each scheduler. */
  inside: Inside | undefined
  mark: number
  /** What it waits for may be more than before, or less. Called within steps of others: it starts nothing in this one. */
  stirUnsafe?(): void
}

/** The jobs of one scheduler that were made in a node. One that is queued has no fibers, so no path leads through it. */
export interface Inside {
  readonly engine: object
  /** Of another scheduler, in the same node. */
  sibling: Inside | undefined
  /** Those that run: a ring. */
  first: Inner | undefined
  /** The node has ended: what it left behind belongs to the heir, or to nobody. */
  passUnsafe(heir: Node | undefined): void
}

/** A job that runs in a node. */
export interface Inner extends Node {
  right: Inner | undefined
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
 * What schedulers have to be told of. Counts only, so that nothing is kept by being counted.
 */
class Changes {
  /** How often a path was added, or taken away. */
  added = 0
  removed = 0
  /** How many queued jobs may run in the width of whoever waits for a run or a batch. */
  seats = 0
  /** How many run in the width of a job that they were not made in. */
  strangers = 0
  /** How many widths have a first job that does not fit. */
  blocked = 0
}

export const changes: Changes = /*#__PURE__*/ new Changes()

/** A fiber of `from` waits for the end of `to`. */
export class Edge {
  from: Node | undefined
  readonly to: Node
  prevOut: Edge | undefined = undefined
  nextOut: Edge | undefined = undefined
  prevIn: Edge | undefined = undefined
  nextIn: Edge | undefined = undefined

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

  /** What waits is another node from now on. */
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
    const first = to.waiters
    if (first === undefined) {
      this.prevIn = this.nextIn = this
    } else {
      const last = first.prevIn!
      this.prevIn = last
      this.nextIn = first
      last.nextIn = first.prevIn = this
    }
    to.waiters = this
    changes.added++
    if (changes.seats + changes.strangers > 0 && (to.waits !== undefined || to.inside !== undefined)) stirAbove(from)
  }

  private unlink(from: Node): void {
    const { nextIn, nextOut, prevOut, to } = this
    if (prevOut === undefined) from.waits = nextOut
    else prevOut.nextOut = nextOut
    if (nextOut !== undefined) nextOut.prevOut = prevOut
    if (nextIn === this) {
      to.waiters = undefined
    } else {
      nextIn!.prevIn = this.prevIn
      this.prevIn!.nextIn = nextIn
      if (to.waiters === this) to.waiters = nextIn
    }
    this.prevOut =
      this.nextOut =
      this.prevIn =
      this.nextIn =
        undefined
    changes.removed++
    if (changes.blocked > 0) stirAbove(from)
  }
}

/** The node has ended: nobody waits for it, and what it left behind belongs to whom it was in. */
export const endUnsafe = (node: Node): void => {
  if (node.waiters !== undefined || node.waits !== undefined || node.inside !== undefined) leaveGraph(node)
}

// Most nodes have neither, and what ends them is to be small enough to be inlined.
const leaveGraph = (node: Node): void => {
  while (node.waiters !== undefined) node.waiters.remove()
  if (node.waits === undefined && node.inside === undefined) return
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

const stirAbove = (node: Node): void =>
  above(node, (node) => {
    node.stirUnsafe?.()
    return true
  })

/**
 * Whether one that waits for a node is taken: `visit` says so, or to go on to those above it, or, with `undefined`, not to.
 * Ends with the first, who is the first to be asked the next time: those asked in vain are not asked again and again.
 */
export const findAbove = (node: Node, visit: (node: Node) => boolean | undefined): boolean => {
  const mark = ++epoch
  const nodes = [node]
  node.mark = mark
  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i]!
    const outer = liveNode(node.outer)
    if (outer !== undefined && outer.mark !== mark) {
      outer.mark = mark
      const found = visit(outer)
      if (found === true) return true
      if (found === false) nodes.push(outer)
    }
    const first = node.waiters
    let edge = first
    while (edge !== undefined) {
      const from = edge.from!
      if (from.mark !== mark) {
        from.mark = mark
        const found = visit(from)
        if (found === true) {
          node.waiters = edge
          return true
        }
        if (found === false) nodes.push(from)
      }
      edge = edge.nextIn
      if (edge === first) break
    }
  }
  return false
}

/** All that wait for a node, itself included, each once; `visit` says whether to go on to those above it. */
export const above = (node: Node, visit: (node: Node) => boolean): void => {
  if (visit(node)) findAbove(node, (node) => visit(node) ? false : undefined)
}

/** Whether a node, or one that waits for it, is so. */
export const isAbove = (node: Node, is: (node: Node) => boolean): boolean => is(node) || findAbove(node, is)

/** Gives what a node waits for: jobs that run in it, and what its fibers wait for. Ends early when told to. */
const below = (node: Node, visit: (node: Node) => boolean): boolean => {
  for (let edge = node.waits; edge !== undefined; edge = edge.nextOut) if (visit(edge.to)) return true
  for (let inside = node.inside; inside !== undefined; inside = inside.sibling) {
    const first = inside.first
    let job = first
    while (job !== undefined) {
      if (visit(job)) return true
      job = job.right
      if (job === first) break
    }
  }
  return false
}

/** Notes a node as seen from one side; whether the other side has met it. */
const meets = (node: Node, seen: number, met: number, nodes: Array<Node>): boolean => {
  if (node.mark === met) return true
  if (node.mark !== seen) {
    node.mark = seen
    nodes.push(node)
  }
  return false
}

/**
 * Whether `to` waits for `from`, so that `from` must not wait for it. Searches from both sides by turns: it costs what
 * the smaller side costs.
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
  const sink = (node: Node) => meets(node, down, up, under)
  for (let i = 0; i < over.length && i < under.length; i++) {
    const node = over[i]!
    const outer = liveNode(node.outer)
    if (outer !== undefined && meets(outer, up, down, over)) return true
    const first = node.waiters
    let edge = first
    while (edge !== undefined) {
      if (meets(edge.from!, up, down, over)) return true
      edge = edge.nextIn
      if (edge === first) break
    }
    if (below(under[i]!, sink)) return true
  }
  return false
}

/** The cycle that an edge would close, from the node that waits to itself. For messages: it costs what it costs. */
export const cycleOf = (from: Node, to: Node): ReadonlyArray<Node> => {
  const came = new Map<Node, Node>([[to, from]])
  for (const node of came.keys()) {
    if (node === from) break
    below(node, (next) => {
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
