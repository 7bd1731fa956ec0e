/**
 * A doubly linked list through its own members: adding one, taking one out and putting one in the place of another costs
 * the same wherever it is, and allocates nothing. A member does not know its list: whoever holds it does.
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

/** Adds a member behind another, or in front of all. */
export const insert = <M extends Member<M>>(list: List<M>, before: M | undefined, member: M): void => {
  const after = before === undefined ? list.first : before.after
  member.before = before
  member.after = after
  if (before === undefined) list.first = member
  else before.after = member
  if (after === undefined) list.last = member
  else after.before = member
}

/** Adds a member at the end. */
export const append = <M extends Member<M>>(list: List<M>, member: M): void => insert(list, list.last, member)

/** Puts one in the place of a member, which is not used again. */
export const replace = <M extends Member<M>>(list: List<M>, member: M, by: M): void => {
  const { after, before } = member
  by.before = before
  by.after = after
  if (before === undefined) list.first = by
  else before.after = by
  if (after === undefined) list.last = by
  else after.before = by
}

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
