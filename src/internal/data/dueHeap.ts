/**
 * A binary heap whose members know their place, so that one can be moved or taken out in O(log n).
 */
export interface Member {
  due: number
  /** Place in the heap, -1 outside. */
  index: number
}

const place = <A extends Member>(heap: Array<A>, member: A, index: number): void => {
  heap[index] = member
  member.index = index
}

const up = <A extends Member>(heap: Array<A>, member: A): void => {
  let index = member.index
  while (index > 0) {
    const parent = (index - 1) >> 1
    const above = heap[parent]!
    if (above.due <= member.due) break
    place(heap, above, index)
    index = parent
  }
  place(heap, member, index)
}

const down = <A extends Member>(heap: Array<A>, member: A): void => {
  const size = heap.length
  let index = member.index
  while (true) {
    let child = 2 * index + 1
    if (child >= size) break
    if (child + 1 < size && heap[child + 1]!.due < heap[child]!.due) child++
    const below = heap[child]!
    if (below.due >= member.due) break
    place(heap, below, index)
    index = child
  }
  place(heap, member, index)
}

/** Gives `member` the time `due`, and a place if it has none. */
export const set = <A extends Member>(heap: Array<A>, member: A, due: number): void => {
  const before = member.due
  member.due = due
  if (member.index === -1) {
    member.index = heap.push(member) - 1
    up(heap, member)
  } else if (due < before) {
    up(heap, member)
  } else if (due > before) {
    down(heap, member)
  }
}

/** Takes `member` out. */
export const remove = <A extends Member>(heap: Array<A>, member: A): void => {
  if (member.index === -1) return
  const last = heap.pop()!
  if (last !== member) {
    place(heap, last, member.index)
    up(heap, last)
    down(heap, last)
  }
  member.index = -1
}

/** The members that are due before a time: all, or more than `many` of them. */
export const dueBefore = <A extends Member>(heap: ReadonlyArray<A>, due: number, many: number): Array<A> => {
  const found: Array<A> = []
  const look = (index: number): void => {
    const member = heap[index]
    if (member !== undefined && member.due < due) found.push(member)
  }
  look(0)
  for (let i = 0; i < found.length && i < many; i++) {
    look(2 * found[i]!.index + 1)
    look(2 * found[i]!.index + 2)
  }
  return found
}
