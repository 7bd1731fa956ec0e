/**
 * The list of all services that are built where the inspector is provided.
 */
import { constVoid } from "effect/Function"
import type { Place } from "../data/timers.js"
import type { Enrolment, Kinds, Observer } from "../seen/seen.js"
import { Time } from "../seen/time.js"

export type Member = {
  readonly [K in keyof Kinds]: { readonly kind: K; readonly name: string; readonly source: Kinds[K][0] }
}[keyof Kinds]

/** Hears of everything and notes nothing: services keep times only where something hears of them. */
class Quiet {
  private readonly time: Time

  constructor(time: Time) {
    this.time = time
  }

  now(): number {
    return this.time.now()
  }
  started(): number {
    return this.time.now()
  }
  ended(): number {
    return this.time.now()
  }
  readonly left = constVoid
  readonly refused = constVoid
  readonly resized = constVoid
  readonly penalized = constVoid
  readonly added = constVoid
  readonly admitted = constVoid
  readonly delayed = constVoid
  readonly joined = constVoid
  readonly asked = constVoid
  readonly executes = constVoid
  readonly commanded = constVoid
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
