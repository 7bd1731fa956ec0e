/**
 * Doubly linked lists and rings through their own members: every operation takes constant time and allocates nothing. A
 * member does not know its list.
 */

/** The links of a member. */
export interface Member<Self> {
  before: Self | undefined
  after: Self | undefined
}

/** The ends of a list, both `undefined` when it is empty. */
export interface List<M> {
  first: M | undefined
  last: M | undefined
}

const link = <M extends Member<M>>(list: List<M>, before: M | undefined, member: M, after: M | undefined): void => {
  member.before = before
  member.after = after
  if (before === undefined) list.first = member
  else before.after = member
  if (after === undefined) list.last = member
  else after.before = member
}

/** Adds a member behind another, or in front of all. */
export const insert = <M extends Member<M>>(list: List<M>, before: M | undefined, member: M): void =>
  link(list, before, member, before === undefined ? list.first : before.after)

/** Adds a member at the end. */
export const append = <M extends Member<M>>(list: List<M>, member: M): void => insert(list, list.last, member)

/** Replaces a member, which is not used again. */
export const replace = <M extends Member<M>>(list: List<M>, member: M, by: M): void =>
  link(list, member.before, by, member.after)

/** Takes a member out. It keeps no neighbour from being collected. */
export const remove = <M extends Member<M>>(list: List<M>, member: M): void => {
  const { after, before } = member
  if (before === undefined) list.first = after
  else before.after = after
  if (after === undefined) list.last = before
  else after.before = before
  member.before = undefined
  member.after = undefined
}

/**
 * A list that knows its last member alone. It is for owners that outlive their members by far: a write of a young member to
 * an old owner costs the collector more than the member's own links, so there is one of them and not two.
 */
export interface Pile<M> {
  last: M | undefined
}

/** Adds a member at the end of a pile. */
export const push = <M extends Member<M>>(pile: Pile<M>, member: M): void => {
  const { last } = pile
  member.before = last
  if (last !== undefined) last.after = member
  pile.last = member
}

/** Takes a member out of a pile. It keeps no neighbour from being collected. */
export const pull = <M extends Member<M>>(pile: Pile<M>, member: M): void => {
  const { after, before } = member
  if (before !== undefined) before.after = after
  if (after === undefined) pile.last = before
  else after.before = before
  member.before = undefined
  member.after = undefined
}

/** The links of a member of a ring. The holder of a ring keeps its first member. */
export interface Linked<Self> {
  left: Self | undefined
  right: Self | undefined
}

/** Adds a member at the end of a ring, and returns the first one. */
export const join = <M extends Linked<M>>(first: M | undefined, member: M): M => {
  if (first === undefined) return member.left = member.right = member
  const last = first.left!
  member.left = last
  member.right = first
  last.right = first.left = member
  return first
}

/** Takes a member out of a ring, and returns the first one of the others. */
export const leave = <M extends Linked<M>>(first: M | undefined, member: M): M | undefined => {
  const { left, right } = member
  member.left = member.right = undefined
  if (right === member) return undefined
  left!.right = right
  right!.left = left
  return first === member ? right : first
}
