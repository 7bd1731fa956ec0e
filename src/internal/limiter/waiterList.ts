/**
 * A queue of those who wait, doubly linked through their own nodes: to come, to leave and to take another's place cost
 * the same wherever it is, and nothing is allocated. Who holds the node knows the list.
 */

/** What a list is linked through. Of one that is in no list the links mean nothing. */
export interface Node<Self> {
  before: Self | undefined
  after: Self | undefined
}

/** The ends of a list, both `undefined` when it is empty. */
export interface List<N> {
  first: N | undefined
  last: N | undefined
}

/** Puts a node at the end. */
export const append = <N extends Node<N>>(list: List<N>, node: N): void => {
  const { last } = list
  node.before = last
  if (last === undefined) list.first = node
  else last.after = node
  list.last = node
}

/** Puts a node where another is, which leaves. */
export const replace = <N extends Node<N>>(list: List<N>, node: N, by: N): void => {
  const { after, before } = node
  by.before = before
  by.after = after
  if (before === undefined) list.first = by
  else before.after = by
  if (after === undefined) list.last = by
  else after.before = by
}

/** Takes a node out, whose neighbours become each other's. */
export const unlink = <N extends Node<N>>(list: List<N>, node: N): void => {
  const { after, before } = node
  if (before === undefined) list.first = after
  else before.after = after
  if (after === undefined) list.last = before
  else after.before = before
}
