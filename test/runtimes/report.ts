/** What a runtime tells of its laws. */
export interface Report {
  readonly passed: number
  readonly failures: ReadonlyArray<{ readonly title: string; readonly error: string }>
  readonly milliseconds: number
}

/** The line of the output that holds the report begins with this. */
export const mark = "@report "
