/**
 * The rate of a scheduler: its limiter, and one claim on it, for the job that is in front when the claim is due.
 */
import type { Slices } from "../data/slices.js"
import type { Limiter, StoreError, Waiter } from "../limiter/limiter.js"
import type { Tokens } from "../limiter/gcra.js"
import type { Job } from "./job.js"

/** Hears how a claim ends. */
export interface Claimant {
  readonly limiter: Limiter<StoreError> | undefined
  readonly slices: Slices
  /** How many jobs could start after the one in front: a bound, for a limiter that takes slots in bulk. */
  behindClaim(): number
  /** Its tokens were taken. */
  onDue(claim: Claim): void
  /** The burst of a shared limiter has become too small. */
  onTooLarge(): void
  onStoreFailure(error: StoreError): void
}

/** A place in the limiter's queue. */
export class Claim implements Waiter<StoreError> {
  readonly key: string | undefined = undefined
  link: unknown = undefined
  readonly tokens: Tokens
  since: number
  private readonly rate: Rate

  constructor(rate: Rate, tokens: Tokens, since: number) {
    this.rate = rate
    this.tokens = tokens
    this.since = since
  }

  behind(): number {
    return this.rate.claimant.behindClaim()
  }
  onDue(): void {
    if (this.rate.settles(this)) this.rate.claimant.onDue(this)
  }
  onTooLarge(): void {
    if (this.rate.settles(this)) this.rate.claimant.onTooLarge()
  }
  onFailure(error: StoreError): void {
    if (this.rate.settles(this)) this.rate.claimant.onStoreFailure(error)
  }
}

export class Rate {
  readonly claimant: Claimant
  private claim: Claim | undefined = undefined

  constructor(claimant: Claimant) {
    this.claimant = claimant
  }

  get claimed(): boolean {
    return this.claim !== undefined
  }

  /** Takes the rate for the job in front in this step, or sees to it that one claim waits for it. */
  take(job: Job, since: number): boolean {
    const { claim, claimant: { limiter } } = this
    if (limiter === undefined || job.tokens === 0) return true
    const cost = job.cost
    if (claim !== undefined) {
      // The claim serves the job that is in front when it is due; only other tokens need another claim.
      if (claim.tokens === cost) {
        claim.since = since
        return false
      }
    } else if (limiter.takeUnsafe(undefined, cost, since, job)) {
      limiter.watch?.admitted()
      return true
    }
    this.claim = new Claim(this, cost, since)
    limiter.waitUnsafe(this.claim, claim === undefined ? undefined : { insteadOf: claim })
    return false
  }

  /** Withdraws the claim, unless it fits the job in front. */
  recheck(front: Job | undefined): void {
    if (this.claim !== undefined && (front === undefined || front.cost !== this.claim.tokens)) this.withdraw()
  }

  withdraw(): void {
    const { claim } = this
    if (claim === undefined) return
    this.claim = undefined
    // It lets others come first at the limiter.
    this.claimant.slices.apart(() => this.claimant.limiter!.cancelUnsafe(claim))
  }

  /** Whether a claim still counts. While a limiter notifies several claims, one of them may withdraw another. */
  settles(claim: Claim): boolean {
    if (this.claim !== claim) return false
    this.claim = undefined
    return true
  }
}
