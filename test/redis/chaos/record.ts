/**
 * The record of a chaos run: one line of JSON an event. Each process appends its own events at once, so they survive it.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"
import { clock } from "../faults/harness.ts"

/** What a call may be for: a result of a shared run, a token, or a job. */
export type Kind = "flight" | "token" | "job"

/** `t` are milliseconds of the machine's monotonic clock. `w` is the process: its place, and how often that was filled before. */
export type Event =
  & { readonly t: number; readonly w: string }
  & (
    /** The process is not stalled. */
    | { readonly e: "beat" }
    /** The process ends now: it was killed, or was told to end. */
    | { readonly e: "gone" | "ending" }
    /** A caller comes. `leaves`: it will be interrupted if it has no answer by then. */
    | { readonly e: "call"; readonly id: string; readonly kind: Kind; readonly key: string; readonly leaves: boolean }
    /** It has its answer: a value, or the name of an error. */
    | { readonly e: "answer"; readonly id: string; readonly ok?: string; readonly error?: string }
    /** The effect of a call begins to run, and ends. */
    | {
      readonly e: "run"
      readonly id: string
      readonly kind: Kind
      readonly key: string
      readonly fence: number
      readonly weight: number
    }
    | { readonly e: "ran"; readonly id: string; readonly how: "Success" | "Failure" }
    /** The server `server` has written the state of a rate: `at` are microseconds of its clock, `debt` too. */
    | { readonly e: "slots"; readonly server: string; readonly key: string; readonly at: number; readonly debt: number }
    /** The server has lost its rates. */
    | { readonly e: "forgot"; readonly server: string }
    /** Something was done to a process or to the server, from when on calls may fail for a while. */
    | { readonly e: "trouble"; readonly what: string }
    /** Leases may be lost from when on: the server has lost data, or its clock has stepped forward. */
    | { readonly e: "lost"; readonly what: string }
    /** The server's clock stepped back, or another server with a clock of its own took over. */
    | { readonly e: "back" }
    /** Something was there at the end that should not have been. */
    | { readonly e: "leftover"; readonly what: string }
  )

type Of<E> = E extends unknown ? Omit<E, "t" | "w"> : never

/** Appends to the record for one process. */
export class Recorder {
  private readonly file: number
  private readonly w: string
  constructor(path: string, w: string) {
    this.file = openSync(path, "a")
    this.w = w
  }
  readonly note = (event: Of<Event>, t = clock(), w = this.w): void => {
    writeSync(this.file, `${JSON.stringify({ t, w, ...event })}\n`)
  }
  close(): void {
    closeSync(this.file)
  }
}

/** Reads the events in order of their times. */
export const readRecord = (path: string): ReadonlyArray<Event> =>
  readFileSync(path, "utf8").split("\n").flatMap((line): ReadonlyArray<Event> => line === "" ? [] : [JSON.parse(line)])
    .toSorted((a, b) => a.t - b.t)
