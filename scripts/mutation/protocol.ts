/** The messages between the processes of a mutation run, as lines of JSON. */

/** The work of one process. */
export interface Job {
  readonly root: string
  /** Test files to load. */
  readonly files: ReadonlyArray<string>
  /** The number of compiled mutants. */
  readonly mutants: number
  /** The directory of claims: a process leaves a file for each mutant it tries, so no other process takes it. */
  readonly claims: string
  readonly results: string
  /** The maximum lifetime of a process. */
  readonly maxMillis: number
  /** A mutant that acts only during module load is active all the time. */
  readonly activeFromLoad?: number | undefined
  /** Empty for a process that measures which test reaches which mutant. */
  readonly work: ReadonlyArray<{
    readonly mutant: number
    readonly file: string
    /** Tests that failed with the mutant and then without it too. */
    readonly suspects: ReadonlyArray<string>
    readonly tests: ReadonlyArray<{ readonly id: string; readonly millis: number }>
  }>
}

/** The messages of a measurement: first the mutants reached by loading the files, then each test. */
export type Baseline =
  | { readonly loaded: ReadonlyArray<number> }
  | { readonly broken: string; readonly error: string }
  | {
    readonly test: string
    readonly millis: number
    readonly outcome: "failed" | "timeout" | undefined
    readonly reason: string
    readonly hits: ReadonlyArray<number>
  }

export type Outcome =
  | { readonly ended: true }
  | { readonly mutant: number; readonly began: true }
  | { readonly mutant: number; readonly again: string }
  | Verdict

export interface Verdict {
  readonly mutant: number
  readonly outcome: "survived" | "failed" | "timeout"
  readonly by?: string | undefined
  readonly millis: number
  readonly disturbed?: boolean | undefined
}
