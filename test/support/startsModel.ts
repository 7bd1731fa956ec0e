/**
 * The starts at one rate, judged by the laws L1 and O8 and not by their arithmetic: in each interval between two starts no
 * more tokens were taken than the quota allows.
 */
type Tokens = number | ReadonlyArray<number>

/** A quota, in nanoseconds. */
export interface ModelQuota {
  readonly limit: number
  readonly window: number
  readonly burst: number
  readonly strict: boolean
}

export interface Start {
  at: number
  /** What it has certainly taken: its tokens, or what it has cost if that is less. */
  cost: Tokens
}

interface World {
  readonly now: () => number
  readonly problem: (told: string) => void
  /** How long the event loop has stood still in all. */
  readonly blocked: () => number
}

/** A timer rings at a whole millisecond. */
const rounding = 1e6
const mostCatchUp = 50e6

const of = (tokens: Tokens, i: number): number =>
  typeof tokens === "number" ? tokens : tokens[Math.min(i, tokens.length - 1)]!

export class Starts {
  private readonly name: string
  private readonly world: World
  private quotas: ReadonlyArray<ModelQuota>
  private starts: Array<Start> = []
  penaltyUntil = -Infinity
  /** Tokens were given back: a call that waited for them counts from when it came, as if its timer had been late. */
  private carries = false
  /** How often it was split: what was granted before is judged no more. */
  eras = 0
  count = 0

  constructor(name: string, world: World, quotas: ReadonlyArray<ModelQuota>) {
    this.name = name
    this.world = world
    this.quotas = quotas
  }

  /** Tokens were taken in this step. */
  begin(cost: Tokens, penalizedBefore = true): Start {
    const start = { at: this.world.now(), cost }
    this.count++
    this.starts.push(start)
    const takesOfAll = typeof cost === "number" || cost.every((n) => n > 0)
    if (takesOfAll && penalizedBefore && start.at < this.penaltyUntil) {
      this.world.problem(`${this.name}: a start in a penalty that has ${(this.penaltyUntil - start.at) / 1e6} ms to go`)
    }
    return start
  }

  /** Its effect begins. */
  runs(start: Start): void {
    if (this.quotas.some(({ strict }) => strict)) start.at = this.world.now()
  }

  /** It never began. */
  forget(start: Start): void {
    this.carries = true
    const at = this.starts.indexOf(start)
    if (at !== -1) this.starts.splice(at, 1)
  }

  settles(start: Start, actual: Tokens): void {
    this.carries = true
    start.cost = this.quotas.map((_, i) => Math.min(of(start.cost, i), of(actual, i)))
  }

  penalize(nanos: number): void {
    this.penaltyUntil = Math.max(this.penaltyUntil, this.world.now() + nanos)
  }

  /** Other quotas hold from now on. */
  requote(quotas: ReadonlyArray<ModelQuota>): void {
    this.split()
    this.quotas = quotas
  }

  /** What was consumed is forgotten. */
  reset(): void {
    this.split()
    this.penaltyUntil = -Infinity
  }

  private split(): void {
    this.judge()
    this.starts = []
    this.carries = false
    this.eras++
  }

  judge(): void {
    const starts = this.starts.toSorted((a, b) => a.at - b.at)
    const slack = rounding + (this.carries ? mostCatchUp : Math.min(mostCatchUp, this.world.blocked()))
    for (const [i, { burst, limit, strict, window }] of this.quotas.entries()) {
      const interval = Math.ceil(window / limit)
      for (let first = 0; first < starts.length; first++) {
        let tokens = 0
        for (let last = first; last < starts.length; last++) {
          tokens += of(starts[last]!.cost, i)
          const length = starts[last]!.at - starts[first]!.at
          if (strict && length < window && tokens > limit) {
            this.world.problem(
              `${this.name}: strict ${limit} in ${window / 1e6} ms, ${tokens} start in ${length / 1e6} ms`
            )
          }
          if ((tokens - burst) * interval > length + slack) {
            this.world.problem(
              `${this.name}: ${limit} in ${window / 1e6} ms with burst ${burst}, ${tokens} start in ${length / 1e6} ms`
            )
          }
        }
      }
    }
  }
}
