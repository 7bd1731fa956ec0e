/**
 * The list of all services that are built where the inspector is provided.
 */
import type { Enrolment, Kinds, Observer } from "../seen/seen.js"
import type { Place } from "../seen/tell.js"
import { Time } from "../seen/time.js"

export type Member = {
  readonly [K in keyof Kinds]: { readonly kind: K; readonly name: string; readonly source: Kinds[K][0] }
}[keyof Kinds]

const ignore = (): void => {}

/** Hears of everything and notes nothing: services keep times only where something hears of them. */
class Quiet {
  private readonly time: Time

  constructor(time: Time) {
    this.time = time
  }

  now(): number {
    return this.time.now()
  }
  started(_since: unknown, now?: number): number {
    return now ?? this.time.now()
  }
  readonly left = ignore
  readonly refused = ignore
  readonly ended = (): undefined => undefined
  readonly resized = ignore
  readonly penalized = ignore
  readonly added = ignore
  readonly admitted = ignore
  readonly delayed = ignore
  readonly joined = ignore
  readonly asked = ignore
  readonly executes = ignore
  readonly commanded = ignore
}

export class Members implements Observer {
  readonly all = new Set<Member>()

  enrol<K extends keyof Kinds>(kind: K, name: string, source: Kinds[K][0], { clock }: Place): Enrolment<K> {
    // Sound: kind and source belong together.
    const member = { kind, name, source } as Member
    this.all.add(member)
    return { watch: new Quiet(new Time(clock)), leave: () => void this.all.delete(member) }
  }
}
