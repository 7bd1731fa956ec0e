/** Merges several runs of the same tables into one report of medians. */
import { median } from "./harness.ts"
import type { Parts } from "./report.ts"

/** Groups rows that differ only in their figures, in the order of the first run. */
const alike = <Row>(
  runs: ReadonlyArray<ReadonlyArray<Row>>,
  id: (row: Row) => string
): ReadonlyArray<ReadonlyArray<Row>> => {
  const groups = new Map<string, Array<Row>>()
  for (const row of runs.flat()) {
    const group = groups.get(id(row))
    if (group === undefined) groups.set(id(row), [row])
    else group.push(row)
  }
  return [...groups.values()]
}

const merged = <Row>(
  runs: ReadonlyArray<ReadonlyArray<Row>>,
  id: (row: Row) => string,
  merge: (first: Row, rows: ReadonlyArray<Row>) => Row
): ReadonlyArray<Row> => alike(runs, id).map((rows) => merge(rows[0]!, rows))

const middle = <Row>(rows: ReadonlyArray<Row>, value: (row: Row) => number): number => median(rows.map(value))
const least = <Row>(rows: ReadonlyArray<Row>, value: (row: Row) => number): number => Math.min(...rows.map(value))
const most = <Row>(rows: ReadonlyArray<Row>, value: (row: Row) => number): number => Math.max(...rows.map(value))

export const merge = (runs: ReadonlyArray<Parts>): Parts => ({
  tables: merged(runs.map((run) => run.tables), (table) => table.id, (first, tables) => ({
    ...first,
    figures: merged(tables.map((table) => table.figures), (row) => `${row.contender} ${row.n}`, (row, rows) => ({
      ...row,
      median: middle(rows, (_) => _.median),
      cpu: middle(rows, (_) => _.cpu),
      low: least(rows, (_) => _.low),
      high: most(rows, (_) => _.high),
      samples: rows.reduce((sum, _) => sum + _.samples, 0)
    }))
  })),
  heap: merged(runs.map((run) => run.heap), (row) => `${row.table} ${row.contender}`, (row, rows) => ({
    ...row,
    bytes: middle(rows, (_) => _.bytes)
  })),
  pace: merged(runs.map((run) => run.pace), (table) => table.id, (first, tables) => ({
    ...first,
    // A limit must hold in every run, so the report keeps the worst of the most starts in a second and of the least
    // gap.
    rows: merged(tables.map((table) => table.rows), (row) => row.contender, (row, rows) => ({
      ...row,
      span: middle(rows, (_) => _.span),
      most: most(rows, (_) => _.most),
      gap: least(rows, (_) => _.gap)
    }))
  })),
  growth: merged(runs.map((run) => run.growth), (row) => `${row.contender} ${row.n} ${row.roomy}`, (row, rows) => ({
    ...row,
    micros: middle(rows, (_) => _.micros),
    cpu: middle(rows, (_) => _.cpu)
  })),
  stalls: merged(runs.map((run) => run.stalls), (row) => `${row.what} ${row.layers}`, (row, rows) => ({
    ...row,
    cpu: middle(rows, (_) => _.cpu),
    wall: middle(rows, (_) => _.wall),
    collection: middle(rows, (_) => _.collection)
  })),
  imports: merged(runs.map((run) => run.imports), (row) => row.contender, (row, rows) => ({
    ...row,
    millis: middle(rows, (_) => _.millis)
  })),
  memory: merged(runs.map((run) => run.memory), (row) => row.contender, (row, rows) => ({
    ...row,
    spread: middle(rows, (_) => _.spread)
  })),
  sizes: merged(runs.map((run) => run.sizes), (row) => row.contender, (row) => row),
  crowd:
    merged(runs.map((run) => run.crowd === undefined ? [] : [run.crowd]), (row) => String(row.jobs), (row, rows) => ({
      ...row,
      semaphore: middle(rows, (_) => _.semaphore),
      schedule: middle(rows, (_) => _.schedule)
    }))[0]
})
