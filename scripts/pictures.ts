/**
 * Draws the pictures of README.md and of the guides.
 *
 *     npm run pictures      writes docs/pictures/*.svg
 *
 * The figures of the demo are those of examples/demo/recorded.json, which `npm run demo:record` writes.
 *
 * Each picture has its own background and follows the reader's colour scheme, so it is readable on dark and light
 * pages. A test compares the files with the output of this script.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { dueAt, rate, take } from "../src/internal/limiter/gcra.ts"

const style = `
  svg { --page: #ffffff; --text: #1f2328; --soft: #59636e; --line: #8c959f; --box: #f6f8fa;
    --blue: #0969da; --blue-fill: #ddf4ff; --green: #1a7f37; --green-fill: #dafbe1; --red: #cf222e;
    --purple: #8250df; --purple-fill: #fbefff; --orange: #9a6700; --orange-fill: #fff8c5 }
  @media (prefers-color-scheme: dark) {
    svg { --page: #0d1117; --text: #f0f6fc; --soft: #9198a1; --line: #656c76; --box: #151b23;
      --blue: #58a6ff; --blue-fill: #12294a; --green: #3fb950; --green-fill: #12341d; --red: #ff7b72;
      --purple: #bc8cff; --purple-fill: #2b1d45; --orange: #d29922; --orange-fill: #37290a }
  }
  text { font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--text) }
  .title { font-weight: 600 }
  .soft { font-size: 13px; fill: var(--soft) }
  .middle { text-anchor: middle }
  .end { text-anchor: end }
  .page { fill: var(--page) }
  .box { fill: var(--box); stroke: var(--line); stroke-width: 1.5 }
  .line { fill: none; stroke: var(--line); stroke-width: 1.5 }
  .head { fill: var(--line) }
  .blue { fill: var(--blue-fill); stroke: var(--blue) }
  .purple { fill: var(--purple-fill); stroke: var(--purple) }
  .green { fill: var(--green-fill); stroke: var(--green) }
  .orange { fill: var(--orange-fill); stroke: var(--orange) }
  .waits { fill: none; stroke: var(--line); stroke-dasharray: 4 3 }
  .result { fill: var(--green) }
  .cut { fill: none; stroke: var(--red); stroke-width: 2.5 }
  .moment { stroke: var(--red); stroke-width: 1; stroke-dasharray: 2 4 }
  .grid { stroke: var(--line); stroke-width: 1; opacity: 0.35 }
  .with { fill: var(--blue); stroke: none }
  .without { fill: var(--red); stroke: none }
  path.with { fill: none; stroke: var(--blue); stroke-width: 3 }
  path.without { fill: none; stroke: var(--red); stroke-width: 3 }`

const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

const text = (x: number, y: number, content: string, className = "") =>
  `<text x="${x}" y="${y}"${className === "" ? "" : ` class="${className}"`}>${escape(content)}</text>`

const rect = (x: number, y: number, width: number, height: number, className: string) =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="6" class="${className}"/>`

const picture = (width: number, height: number, title: string, parts: ReadonlyArray<string>) =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${style}\n</style>`,
    `<rect width="${width}" height="${height}" rx="8" class="page"/>`,
    ...parts,
    "</svg>",
    ""
  ].join("\n")

/** Calls in on the left, calls out on the right. */
const funnel = () => {
  const chip = (x: number, y: number, label: string, className: string, width = 30) =>
    `${rect(x, y, width, 28, className)}${text(x + width / 2, y + 19, label, "middle")}`
  const chips = (x: number, y: number, labels: string, classes: Readonly<Record<string, string>>) =>
    Array.from(labels, (label, i) => chip(x + i * 34, y, label, classes[label]!)).join("")
  const box = (x: number, y: number, width: number, height: number, lines: ReadonlyArray<string>) => {
    const top = y + height / 2 - (lines.length - 1) * 10 + 5
    return rect(x, y, width, height, "box") +
      lines.map((line, i) => text(x + width / 2, top + i * 20, line, `middle ${i === 0 ? "title" : "soft"}`)).join("")
  }
  const arrow = (from: number, to: number, y: number) =>
    `<path class="line" d="M${from} ${y}H${to - 6}"/><path class="head" d="M${to - 8} ${y - 5}l9 5l-9 5z"/>`
  const [first, second, third] = [84, 164, 244]
  const reads = { A: "blue", B: "purple" }
  const lookUps = { 1: "green", 2: "green", 3: "green" }
  const writes = { C: "orange", D: "orange" }
  const middle = 14
  return picture(916, 320, "13 calls go in, 5 calls come out, two at once and ten a second", [
    text(24, 36, "13 calls in", "title"),
    text(892, 36, "5 calls out", "title end"),
    chips(24, first, "AABABA", reads),
    chips(24, second, "12132", lookUps),
    chips(24, third, "CD", writes),
    arrow(236, 262, first + middle),
    box(264, first - 20, 168, 68, ["Reducer", "equal calls share a run"]),
    arrow(434, 460, first + middle),
    chips(464, first, "AB", reads),
    arrow(202, 262, second + middle),
    box(264, second - 20, 168, 68, ["Batcher", "look-ups share a call"]),
    arrow(434, 460, second + middle),
    chip(464, second, "1 2 3", "green", 64),
    arrow(100, 460, third + middle),
    chips(464, third, "CD", writes),
    ...[first, second, third].map((y) => arrow(534, 558, y + middle)),
    box(560, first - 20, 124, 228, ["Scheduler", "one queue,", "two at once,", "ten a second", "(RateLimiter)"]),
    arrow(686, 804, 144),
    arrow(686, 804, 212),
    chip(698, 108, "A", "blue"),
    chip(734, 108, "D", "orange"),
    chip(770, 108, "C", "orange"),
    chip(698, 176, "1 2 3", "green", 64),
    chip(770, 176, "B", "purple"),
    box(806, first - 20, 86, 228, ["backend"])
  ])
}

interface Recorded {
  readonly load: number
  readonly without: { readonly answeredPerSecond: number }
  readonly with: { readonly answeredPerSecond: number }
}

/** What the callers of the demo got in time, over what they asked for. */
const demo = () => {
  const recorded: ReadonlyArray<Recorded> = JSON.parse(
    readFileSync(new URL("../examples/demo/recorded.json", import.meta.url), "utf8")
  )
  const most = Math.max(...recorded.map(({ load }) => load))
  const [left, top, width, height] = [76, 84, 580, 240]
  const x = (load: number) => left + (load / most) * width
  const y = (answers: number) => top + height - (answers / most) * height
  const ticks = [0, 50, 100, 150, 200, 250, 300].filter((tick) => tick <= most)
  const last = recorded.at(-1)!
  const series = (which: "with" | "without", shift: number, label: string, note: string) => {
    const points = recorded.map((point) => [x(point.load), y(point[which].answeredPerSecond)] as const)
    const [endX, endY] = points.at(-1)!
    return [
      `<path class="${which}" d="M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}"/>`,
      ...points.map(([x, y]) => `<circle class="${which}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="4"/>`),
      text(endX + 18, Math.round(endY) + shift, `${last[which].answeredPerSecond} a second`, `title ${which}`),
      text(endX + 18, Math.round(endY) + shift + 18, label, "soft"),
      text(endX + 18, Math.round(endY) + shift + 36, note, "soft")
    ]
  }
  return picture(
    916,
    388,
    `Answered in time at ${last.load} requests a second: ${last.with.answeredPerSecond} with Funnel, ${last.without.answeredPerSecond} without`,
    [
      text(24, 36, "Requests answered in time, a second", "title"),
      text(
        24,
        58,
        "One database with four connections; a query holds one for 15 ms, and callers give up after 1 s.",
        "soft"
      ),
      ...ticks.map((tick) =>
        `<path class="grid" d="M${left} ${y(tick)}H${left + width}"/>` +
        text(left - 12, y(tick) + 5, `${tick}`, "soft end") +
        text(x(tick), top + height + 24, `${tick}`, "soft middle")
      ),
      text(left + width / 2, top + height + 48, "requests that come in a second", "soft middle"),
      ...series("without", -32, "without Funnel: every caller", "waits in the database's pool"),
      ...series("with", -2, "with Funnel: callers share", "runs and queries")
    ]
  )
}

/** The debt of a key over time, by the algorithm itself, and the calls that it admits. */
const gcra = () => {
  const second = 1e9
  const quota = rate(1, second, 3, false)
  const calls = [0, 0, 0, 0.9, 1.3, 6, 6.4]
  let tat = 0
  const starts = calls.map((at) => {
    const start = Math.max(at, dueAt(quota, tat, 1) / second)
    const before = Math.max(0, tat / second - start)
    tat = take(quota, tat, start * second, 1)
    return { at, start, before, after: tat / second - start }
  })
  const [left, step, ceiling, floor, seconds] = [168, 76, 120, 264, 9] as const
  const x = (at: number) => left + at * step
  const y = (debt: number) => floor - debt * 48
  const [first, ...rest] = starts
  const points = [[0, 0], [0, first!.after]]
  let owed = first!
  for (const next of rest) {
    const free = owed.start + owed.after
    if (next.start > free) points.push([free, 0])
    points.push([next.start, next.before], [next.start, next.after])
    owed = next
  }
  points.push([owed.start + owed.after, 0], [seconds, 0])
  const dots = (row: number, of: (call: typeof starts[number]) => number, className: string) =>
    starts.map((call, i) => {
      // Calls of one moment stand beside each other.
      const shift = starts.slice(0, i).filter((other) => of(other) === of(call)).length * 22
      return `<circle cx="${x(of(call)) + shift}" cy="${row}" r="10" class="${className}"/>` +
        text(x(of(call)) + shift, row + 5, `${i + 1}`, "middle soft")
    })
  return picture(916, 372, "GCRA: one token a second, burst 3", [
    text(20, 32, "GCRA: one token a second, burst 3", "title"),
    text(20, 69, "calls come"),
    ...dots(64, (call) => call.at, "purple"),
    text(20, ceiling + 5, "full: the burst of 3", "soft"),
    `<path class="cut" stroke-dasharray="6 4" d="M${left} ${ceiling}H${x(seconds)}"/>`,
    text(20, (ceiling + floor) / 2, "debt, in tokens"),
    text(20, floor + 5, "at rest", "soft"),
    `<path class="line" d="M${left} ${floor}H${x(seconds)}"/>`,
    `<path class="with" d="M${points.map(([at, debt]) => `${x(at!).toFixed(1)} ${y(debt!).toFixed(1)}`).join("L")}"/>`,
    ...Array.from(
      { length: seconds + 1 },
      (_, at) =>
        `<path class="grid" d="M${x(at)} ${ceiling}V${floor}"/>${text(x(at), floor + 24, `${at} s`, "soft middle")}`
    ),
    text(20, 321, "calls start"),
    ...dots(316, (call) => call.start, "blue"),
    text(
      left - 10,
      356,
      "1 to 3 start at once. 4 and 5 wait until a token has come back. After a rest 6 and 7 start at once.",
      "soft"
    )
  ])
}

/** `from` and `to` are moments. A lane is one caller, one run or one batch. */
interface Lane {
  readonly name: string
  readonly spans: ReadonlyArray<
    readonly [kind: keyof typeof kinds, from: number, to: number, label?: string]
  >
  readonly interrupted?: number
  readonly result?: number
}

const kinds = { waits: "waits", runs: "blue", finalizers: "orange", collects: "purple", length: "green" } as const

/** Draws lanes against time, from left to right. */
const timeline = (
  title: string,
  lanes: ReadonlyArray<Lane>,
  notes: ReadonlyArray<readonly [at: number, string]> = []
) => {
  const [left, step, lane, top] = [168, 56, 44, 64]
  const last = Math.max(...lanes.flatMap((_) => [..._.spans.map(([, , to]) => to), _.result ?? 0, _.interrupted ?? 0]))
  const width = Math.max(left + last * step + 40, 640)
  const bottom = top + lanes.length * lane
  const x = (at: number) => left + at * step
  const cross = (x: number, y: number) => `<path class="cut" d="M${x - 6} ${y - 6}l12 12m0 -12l-12 12"/>`
  const dot = (x: number, y: number) => `<circle class="result" cx="${x}" cy="${y}" r="6"/>`
  const legend = bottom + 20 + (notes.length > 0 ? 24 : 0)
  const box = (className: string) => (x: number) => rect(x, legend - 3, 26, 16, className)
  const has = (kind: keyof typeof kinds) => lanes.some((_) => _.spans.some(([other]) => other === kind))
  const signs = ([
    ["waits", box("waits"), true],
    ["runs", box("blue"), true],
    ["finalizers", box("orange"), has("finalizers")],
    ["collects", box("purple"), has("collects")],
    ["interrupted", (x: number) => cross(x + 13, legend + 5), lanes.some((_) => _.interrupted !== undefined)],
    ["returns", (x: number) => dot(x + 13, legend + 5), lanes.some((_) => _.result !== undefined)]
  ] as const).filter(([, , shown]) => shown)
  return picture(width, legend + 28, title, [
    text(20, 32, title, "title"),
    ...lanes.flatMap((_) => _.interrupted === undefined ? [] : [_.interrupted]).map((at) =>
      `<line class="moment" x1="${x(at)}" x2="${x(at)}" y1="${top - 8}" y2="${bottom}"/>`
    ),
    ...lanes.map(({ interrupted, name, result, spans }, i) => {
      const middle = top + i * lane + lane / 2
      return [
        text(20, middle + 5, name),
        ...spans.map(([kind, from, to, label]) =>
          rect(x(from), middle - 13, (to - from) * step, 26, kinds[kind]) +
          (label === undefined ? "" : text(x((from + to) / 2), middle + 5, label, "soft middle"))
        ),
        interrupted === undefined ? "" : cross(x(interrupted), middle),
        result === undefined ? "" : dot(x(result), middle)
      ].join("")
    }),
    ...notes.map(([at, note]) => text(x(at), bottom + 18, note, "soft middle")),
    ...signs.map(([label, sign], i) => {
      const at = 20 + i * 116
      return sign(at) + text(at + 34, legend + 10, label, "soft")
    })
  ])
}

/** Jobs of a scheduler with concurrency 2 and a rate of one a second, in order of arrival. */
const queue = () => {
  const jobs = [[0, 3.5], [0.2, 2.5], [0.7, 2], [1.6, 1.5], [2.2, 1.5], [8, 1.5]] as const
  const permits = [0, 0]
  let pace = 0
  const lanes: Array<Lane> = []
  const waits: Array<readonly [from: number, to: number]> = []
  for (const [i, [at, takes]] of jobs.entries()) {
    const permit = permits.indexOf(Math.min(...permits))
    const width = Math.max(at, permits[permit]!)
    const start = Math.max(width, pace)
    permits[permit] = start + takes
    pace = start + 1
    if (start > at) waits.push([at, start])
    const label = start === width ? "permit" : width === at ? "rate" : "permit, then rate"
    lanes.push({
      name: `job ${i + 1}`,
      spans: [
        ...(start > at ? [["waits", at, start, label] as const] : []),
        ["runs", start, start + takes, `permit ${permit + 1}`]
      ],
      result: start + takes
    })
  }
  const moments = [...new Set(waits.flat())].toSorted((a, b) => a - b)
  const lengths = moments.slice(0, -1).map((from, i) => {
    const long = waits.filter(([since, until]) => since <= from && from < until).length
    return ["length", from, moments[i + 1]!, `${long}`] as const
  })
  const ticks = Array.from({ length: 10 }, (_, at) => [at, `${at} s`] as const)
  return timeline("Scheduler at work: concurrency 2, rate one a second", [
    ...lanes,
    { name: "jobs in the queue", spans: lengths.filter(([, , , label]) => label !== "0") }
  ], ticks)
}

export const pictures: Readonly<Record<string, string>> = {
  "funnel.svg": funnel(),
  "demo.svg": demo(),
  "gcra.svg": gcra(),
  "queue.svg": queue(),
  "batch.svg": timeline(
    "Batcher: a batch collects, in its window and in the queue",
    [
      { name: "look-up of 1", spans: [["waits", 0, 7]], result: 7 },
      { name: "look-up of 2", spans: [["waits", 0.6, 7]], result: 7 },
      { name: "look-up of 1 again", spans: [["waits", 1.2, 7]], result: 7 },
      { name: "look-up of 3", spans: [["waits", 3, 7]], result: 7 },
      {
        name: "first batch",
        spans: [["collects", 0, 2, "window"], ["collects", 2, 4.5, "in the queue"], [
          "runs",
          4.5,
          7,
          "asks for 1, 2, 3"
        ]]
      },
      { name: "look-up of 4", spans: [["waits", 5.5, 9.8]], result: 9.8 },
      { name: "second batch", spans: [["collects", 5.5, 7.5, "window"], ["runs", 7.5, 9.8, "asks for 4"]] }
    ]
  ),
  "reducer-one-caller.svg": timeline("Reducer: one caller of two is interrupted", [
    { name: "caller 1", spans: [["waits", 0, 3]], interrupted: 3 },
    { name: "caller 2", spans: [["waits", 1, 7]], result: 7 },
    { name: "run of caller 1", spans: [["runs", 0, 7, "goes on for caller 2"]] }
  ]),
  "reducer-last-caller.svg": timeline("Reducer: the last caller is interrupted", [
    { name: "caller 1", spans: [["waits", 0, 5]], interrupted: 3, result: 5 },
    { name: "first run", spans: [["runs", 0, 3], ["finalizers", 3, 5, "finalizers"]] },
    { name: "caller 2", spans: [["waits", 4, 9]], result: 9 },
    { name: "second run", spans: [["runs", 5, 9, "starts after the first"]] }
  ]),
  "rate-limiter.svg": timeline("RateLimiter: a waiting caller is interrupted", [
    { name: "caller 1", spans: [["runs", 0, 1]], result: 1 },
    { name: "caller 2, due at 3", spans: [["waits", 0.5, 2]], interrupted: 2 },
    { name: "caller 3, due at 6", spans: [["waits", 1, 3], ["runs", 3, 4]], result: 4 },
    { name: "caller 4, due at 9", spans: [["waits", 1.5, 6], ["runs", 6, 7]], result: 7 }
  ], [[3, "3"], [6, "6"]]),
  "scheduler.svg": timeline("Scheduler, concurrency 1: a waiting job and a running job are interrupted", [
    { name: "job 1", spans: [["runs", 0, 4], ["finalizers", 4, 5.5]], interrupted: 4, result: 5.5 },
    { name: "job 2", spans: [["waits", 1, 2.5]], interrupted: 2.5 },
    { name: "job 3", spans: [["waits", 1.5, 5.5], ["runs", 5.5, 8]], result: 8 }
  ]),
  "batcher.svg": timeline("Batcher: callers leave a batch", [
    { name: "look-up of 1", spans: [["waits", 0, 2]], interrupted: 2 },
    { name: "look-up of 2", spans: [["waits", 0.5, 4]], interrupted: 4 },
    { name: "look-up of 3", spans: [["waits", 1, 6]], interrupted: 6 },
    {
      name: "batch",
      spans: [["waits", 0, 2.5, "collects"], ["runs", 2.5, 6, "asks for 2 and 3"], ["finalizers", 6, 7.5]]
    }
  ])
}

if (import.meta.main) {
  const target = fileURLToPath(new URL("../docs/pictures/", import.meta.url))
  mkdirSync(target, { recursive: true })
  for (const [name, svg] of Object.entries(pictures)) writeFileSync(join(target, name), svg)
  console.log(`${Object.keys(pictures).length} pictures in docs/pictures`)
}
