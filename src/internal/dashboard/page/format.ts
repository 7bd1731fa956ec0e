/**
 * Numbers and times as the page shows them.
 */
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 })
const small = new Intl.NumberFormat("en", { maximumFractionDigits: 1 })

export const count = (n: number): string => whole.format(n)

export const compact = (n: number): string => short.format(n)

export const perSecond = (n: number | null): string => n === null ? "–" : `${compact(n)}/s`

export const decimal = (n: number): string => small.format(n)

export const millis = (n: number): string =>
  n < 1000
    ? `${count(n)} ms`
    : n < 60_000
    ? `${small.format(n / 1000)} s`
    : n < 3_600_000
    ? `${Math.floor(n / 60_000)} min ${Math.floor(n / 1000) % 60} s`
    : `${Math.floor(n / 3_600_000)} h ${Math.floor(n / 60_000) % 60} min`

export const clock = (at: number): string => new Date(at).toLocaleTimeString("en-GB")

export const plural = (n: number, one: string): string => `${count(n)} ${one}${n === 1 ? "" : "s"}`

export const percent = (part: number, of: number): string => `${small.format((100 * part) / of)} %`

/** The texts that there are. */
export const told = (...texts: ReadonlyArray<string | false>): ReadonlyArray<string> =>
  texts.filter((text) => text !== false)
