/**
 * The page: takes the frames that the server pushes, and shows them. Names and keys are foreign: they become text, never markup.
 */
import type { Frame } from "../frame.js"
import type { Card } from "./cards.js"
import { Chart } from "./chart.js"
import { count, millis } from "./format.js"
import type { Row } from "./lists.js"
import { type View, Viewer } from "./view.js"

const byId = <E extends HTMLElement>(id: string): E => {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`The page has no #${id}`)
  // Sound: the page has one element of each id, of the kind that is asked for.
  return found as E
}

const element = <K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  text = ""
): HTMLElementTagNameMap[K] => {
  const made = document.createElement(tag)
  if (className !== "") made.className = className
  if (text !== "") made.textContent = text
  return made
}

const write = (target: Element, text: string): void => {
  if (target.textContent !== text) target.textContent = text
}

/** Brings the children of an element in line with items: a child that stays keeps the focus. */
class Children<Item, Child extends { readonly element: HTMLElement }> {
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

class CardElement {
  readonly element = element("article", "card")
  readonly charts: Array<Chart>
  private readonly state = element("span", "state")
  private readonly figures: ReadonlyArray<HTMLElement>
  private readonly notes = element("ul", "notes")

  constructor({ figures, kind, name, plots, id }: Card, every: number) {
    const title = element("h3", "", name)
    const titles = element("div")
    titles.append(title, element("p", "kind", kind))
    const head = element("div", "head")
    head.append(titles, this.state)
    const list = element("dl")
    this.figures = figures.map(([label]) => {
      const pair = element("div")
      const value = element("dd")
      pair.append(element("dt", "", label), value)
      list.append(pair)
      return value
    })
    this.charts = plots.map((plot) => new Chart(plot, every))
    this.element.id = anchorOf(id)
    // A problem leads here.
    this.element.tabIndex = -1
    this.element.append(head, list, ...this.charts.map((_) => _.element), this.notes)
  }

  show({ figures, level, notes, plots, state }: Card, at: number): void {
    this.state.dataset.level = level
    write(this.state, state)
    figures.forEach(([, value], i) => write(this.figures[i]!, value))
    plots.forEach((plot, i) => this.charts[i]!.push(at, plot.lines))
    while (this.notes.children.length > notes.length) this.notes.lastElementChild!.remove()
    notes.forEach((note, i) => {
      write(this.notes.children[i] ?? this.notes.appendChild(element("li")), note)
    })
  }
}

const anchors = new Map<string, string>()

/** The ids of cards are names of services: an anchor is a number. */
const anchorOf = (id: string): string => {
  let anchor = anchors.get(id)
  if (anchor === undefined) anchors.set(id, anchor = `card-${anchors.size + 1}`)
  return anchor
}

class Table<R> {
  private readonly box: HTMLElement
  private readonly body = element("tbody")
  private readonly empty: HTMLElement
  private readonly table = element("table")
  private readonly cells: (row: R) => ReadonlyArray<string>
  private readonly rows: Children<R, { readonly element: HTMLTableRowElement }>

  constructor(
    box: HTMLElement,
    title: string,
    columns: ReadonlyArray<readonly [head: string, className: string]>,
    empty: string,
    cells: (row: R) => ReadonlyArray<string>
  ) {
    this.box = box
    this.cells = cells
    this.empty = element("p", "empty", empty)
    this.box.className = "table"
    this.box.setAttribute("role", "region")
    this.box.setAttribute("aria-label", title)
    // It may scroll sideways: by the keyboard, too.
    this.box.tabIndex = 0
    const head = element("tr")
    for (const [name, className] of columns) {
      const cell = element("th", className, name)
      cell.scope = "col"
      head.append(cell)
    }
    this.table.append(element("thead"), this.body)
    this.table.tHead!.append(head)
    this.rows = new Children(this.body, () => {
      const row = element("tr")
      row.append(...columns.map(([, className]) => element("td", className)))
      return { element: row }
    }, ({ element: row }, item) => {
      this.cells(item).forEach((text, i) => write(row.children[i]!, text))
    })
    this.box.append(this.table, this.empty)
  }

  show(rows: ReadonlyArray<R>): void {
    this.table.hidden = rows.length === 0
    this.empty.hidden = rows.length > 0
    this.rows.set(rows, (_, i) => String(i))
  }
}

const jobColumns = [["", ""], ["for", "number"], ["of", ""], ["", ""]] as const
const jobCells = (row: Row): ReadonlyArray<string> => [row.what, millis(row.millis), row.where, row.details]
const columns = (what: string) =>
  [[what, ""], ["time", "number"], ["service", ""], ["details", "hide"]] as const satisfies ReadonlyArray<
    readonly [string, typeof jobColumns[number][1] | "hide"]
  >

const waits = new Table<Row>(byId("waits"), "Longest waits", columns("waits"), "Nothing waits.", jobCells)
const runs = new Table<Row>(byId("runs"), "Longest at work", columns("works"), "Nothing is at work.", jobCells)
const edges = new Table<readonly [string, string]>(
  byId("edges"),
  "Who waits for whom",
  [["waits", ""], ["for", ""]],
  "No run, job or batch waits for another one.",
  (row) => row
)

let every = 1000
const cards = new Children<Card, CardElement>(byId("cards"), (card) => new CardElement(card, every), (child, card) => {
  child.show(card, shownAt)
})
let shownAt = 0

interface Problem {
  readonly element: HTMLElement
  readonly state: HTMLElement
  readonly name: HTMLElement
}

const problems = new Children<Pick<Card, "id" | "level" | "name" | "state">, Problem>(byId("problems"), ({ id }) => {
  const item = element("li")
  const state = element("span", "state")
  const name = element(id === "" ? "span" : "a")
  if (name instanceof HTMLAnchorElement) name.href = `#${anchorOf(id)}`
  item.append(state, name)
  return { element: item, state, name }
}, ({ name, state }, card) => {
  state.dataset.level = card.level
  write(state, card.state)
  write(name, card.name)
})

let flowChart: Chart | undefined

const headline = (parts: View["headline"]): void => {
  byId("headline").replaceChildren(...parts.map(([text, mark]) => element("span", mark ?? "", text)))
}

const rank = { bad: 0, wait: 1, fine: 2 } as const

const show = (view: View, frame: Frame): void => {
  const { at } = frame.snapshot
  shownAt = at
  headline(view.headline)
  write(byId("since"), view.since)
  if (flowChart === undefined) {
    flowChart = new Chart(view.flow, every, 130)
    byId("flow").append(flowChart.element)
  }
  flowChart.push(at, view.flow.lines)
  cards.set(view.cards, (_) => _.id, ({ charts }) => charts.forEach((_) => _.end()))
  const found: ReadonlyArray<Pick<Card, "id" | "level" | "name" | "state">> = view.cards
    .filter(({ level }) => level !== "fine")
    .sort((a, b) => rank[a.level] - rank[b.level])
  problems.set(
    found.length > 0
      ? found
      : [{ id: "", level: "fine", state: "fine", name: `Nothing. ${count(view.cards.length)} services are listed.` }],
    (_) => _.id
  )
  waits.show(view.waits)
  runs.show(view.runs)
  edges.show(view.edges.rows)
  write(
    byId("edges-title"),
    view.edges.total > view.edges.rows.length
      ? `Who waits for whom: ${count(view.edges.rows.length)} of ${count(view.edges.total)}`
      : "Who waits for whom"
  )
}

const link = byId("link")
const tell = (level: Card["level"], text: string): void => {
  link.dataset.level = level
  write(link, text)
}

const pause = byId<HTMLButtonElement>("pause")
let paused = false
pause.addEventListener("click", () => {
  paused = !paused
  pause.setAttribute("aria-pressed", String(paused))
  write(pause, paused ? "Resume" : "Pause")
  tellLink()
})

const viewer = new Viewer()
let connected = false
let lostAt: number | undefined

/** Says whether the figures are those of now: paused or not, a lost connection comes first. */
const tellLink = (): void => {
  if (lostAt !== undefined) {
    tell("bad", `no connection since ${new Date(lostAt).toLocaleTimeString("en-GB")}, trying again …`)
  } else if (paused) tell("wait", "paused")
  else if (connected) tell("fine", "live")
  else tell("wait", "connecting …")
}

const charts = function*(): Generator<Chart> {
  if (flowChart !== undefined) yield flowChart
  for (const card of cards.all) yield* card.charts
}

const take = (frame: Frame): void => {
  connected = true
  every = frame.every
  if (lostAt !== undefined) {
    for (const chart of charts()) chart.gap(frame.snapshot.at - 1)
    lostAt = undefined
  }
  // Figures of the last minute need each frame.
  const view = viewer.see(frame)
  tellLink()
  if (!paused) show(view, frame)
}

const retryMillis = 1000
const silenceMillis = 15_000

/** The browser connects again by itself, but not after an answer that is no stream, as while the server has too many viewers. */
const connect = (): void => {
  const source = new EventSource(`${location.pathname.replace(/\/+$/, "")}/events`)
  let last = performance.now()
  source.addEventListener("message", ({ data }) => {
    last = performance.now()
    take(JSON.parse(data) as Frame)
  })
  const lost = (): void => {
    lostAt ??= Date.now()
    tellLink()
  }
  const again = (): void => {
    clearInterval(timer)
    source.close()
    lost()
    setTimeout(connect, retryMillis)
  }
  source.addEventListener("error", again)
  // A connection may die without a word.
  const timer = setInterval(() => {
    if (performance.now() - last > silenceMillis + 3 * every) again()
  }, 1000)
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts()) chart.redraw()
})

connect()
