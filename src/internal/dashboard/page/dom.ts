/**
 * Makes elements, and writes to them only what changes.
 */
export const byId = <E extends HTMLElement>(id: string): E => {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`The page has no #${id}`)
  // Sound: the page has one element of each id, of the kind that is asked for.
  return found as E
}

export const element = <K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...content: ReadonlyArray<Node | string>
): HTMLElementTagNameMap[K] => {
  const made = document.createElement(tag)
  if (className !== "") made.className = className
  made.append(...content)
  return made
}

export const write = (target: Element, text: string): void => {
  if (target.textContent !== text) target.textContent = text
}

/** Brings the children of an element in line with items: a child that stays keeps the focus. */
export class Children<Item, Child extends { readonly element: HTMLElement }> {
  private readonly known = new Map<string, Child>()
  private readonly parent: HTMLElement
  private readonly make: (item: Item) => Child
  private readonly update: (child: Child, item: Item) => void

  constructor(parent: HTMLElement, make: (item: Item) => Child, update: (child: Child, item: Item) => void) {
    this.parent = parent
    this.make = make
    this.update = update
  }

  set(items: ReadonlyArray<Item>, keyOf: (item: Item, i: number) => string, end?: (child: Child) => void): void {
    const keys = new Set(items.map(keyOf))
    for (const [key, child] of this.known) {
      if (keys.has(key)) continue
      child.element.remove()
      end?.(child)
      this.known.delete(key)
    }
    items.forEach((item, i) => {
      const key = keyOf(item, i)
      let child = this.known.get(key)
      if (child === undefined) this.known.set(key, child = this.make(item))
      const at = this.parent.children[i]
      if (at !== child.element) this.parent.insertBefore(child.element, at ?? null)
      this.update(child, item)
    })
  }

  get all(): Iterable<Child> {
    return this.known.values()
  }
}
