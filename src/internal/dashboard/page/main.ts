/**
 * The page: takes the frames that the server pushes, and shows them. Names and keys are foreign: they become text, never markup.
 */
import type { Frame } from "../frame.js"
import type { Card } from "./cards.js"
import { Chart } from "./chart.js"
import { byId, Children, element, write } from "./dom.js"
import { clock, count, millis } from "./format.js"
import type { Row } from "./lists.js"
import { type View, Viewer } from "./view.js"

class CardElement {
  readonly element = element("article", "card")
  readonly charts: Array<Chart>
  private readonly state = element("span", "state")
  private readonly figures: ReadonlyArray<HTMLElement>
  private readonly notes = element("ul", "notes")

  constructor({ figures, kind, name, plots, id }: Card, every: number) {
    const titles = element("div", "", element("h3", "", name), element("p", "kind", kind))
    const list = element("dl")
    this.figures = figures.map(([label]) => {
      const value = element("dd")
      list.append(element("div", "", element("dt", "", label), value))
      return value
    })
    this.charts = plots.map((plot) => new Chart(plot, every))
    this.element.id = anchorOf(id)
    // A problem leads here.
    this.element.tabIndex = -1
    this.element.append(
      element("div", "head", titles, this.state),
      list,
      ...this.charts.map((_) => _.element),
      this.notes
    )
  }

  show({ figures, level, notes, plots, state }: Card, at: number): void {
    this.state.dataset.level = level
    write(this.state, state)
    figures.forEach(([, value], i) => write(this.figures[i]!, value))
    plots.forEach((plot, i) => this.charts[i]!.push(at, plot))
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

/** Makes a table in a box, and returns the function that shows rows in it. */
const table = <R>(
  box: HTMLElement,
  title: string,
  columns: ReadonlyArray<readonly [head: string, className: string]>,
  empty: string,
  cells: (row: R) => ReadonlyArray<string>
): (rows: ReadonlyArray<R>) => void => {
  box.className = "table"
  box.setAttribute("role", "region")
  box.setAttribute("aria-label", title)
  // It may scroll sideways: by the keyboard, too.
  box.tabIndex = 0
  const heads = columns.map(([name, className]) => {
    const head = element("th", className, name)
    head.scope = "col"
    return head
  })
  const body = element("tbody")
  const table = element("table", "", element("thead", "", element("tr", "", ...heads)), body)
  const nothing = element("p", "empty", empty)
  box.append(table, nothing)
  const shown = new Children<R, { readonly element: HTMLTableRowElement }>(
    body,
    () => ({ element: element("tr", "", ...columns.map(([, className]) => element("td", className))) }),
    ({ element: row }, item) => cells(item).forEach((text, i) => write(row.children[i]!, text))
  )
  return (rows) => {
    table.hidden = rows.length === 0
    nothing.hidden = rows.length > 0
    shown.set(rows, (_, i) => String(i))
  }
}

const cells = (row: Row): ReadonlyArray<string> => [row.what, millis(row.millis), row.where, row.details]
const columns = (what: string) => [[what, ""], ["time", "number"], ["service", ""], ["details", "hide"]] as const

const showWaits = table(byId("waits"), "Longest waits", columns("waits"), "Nothing waits.", cells)
const showRuns = table(byId("runs"), "Longest at work", columns("works"), "Nothing is at work.", cells)
const showEdges = table<readonly [string, string]>(
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
  const state = element("span", "state")
  const name = element(id === "" ? "span" : "a")
  if (name instanceof HTMLAnchorElement) name.href = `#${anchorOf(id)}`
  return { element: element("li", "", state, name), state, name }
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
  flowChart.push(at, view.flow)
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
  showWaits(view.waits)
  showRuns(view.runs)
  showEdges(view.edges.rows)
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
    tell("bad", `no connection since ${clock(lostAt)}, trying again …`)
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
