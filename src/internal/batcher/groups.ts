/**
 * Which callers of a resolver may share.
 */
import * as Context from "effect/Context"
import { constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import { Isolation } from "./key.js"
import { Group } from "./state.js"
import type { Owner } from "./state.js"
import { hashKey, KeyMap, native } from "../data/keyMap.js"

/** The groups that are not at rest, found by the isolating services of a context. */
export class Groups<Req extends Request.Any> {
  /** Everybody, where nothing is isolated. */
  readonly all: Group<Req> | undefined
  private readonly owner: Owner
  private readonly isolate: ReadonlyArray<Context.Key<unknown, unknown>>
  private readonly onDrop: (group: Group<Req>) => void
  private readonly known = new KeyMap<Group<Req>>()

  constructor(
    owner: Owner,
    isolate: ReadonlyArray<Context.Key<unknown, unknown>>,
    onDrop: (group: Group<Req>) => void
  ) {
    this.owner = owner
    this.isolate = isolate
    this.onDrop = onDrop
    if (isolate.length === 0) this.all = new Group(owner, undefined, native, Context.empty(), constVoid)
  }

  find(context: Context.Context<never>): Group<Req> {
    if (this.all !== undefined) return this.all
    let services = Context.empty()
    const values = this.isolate.map((tag) => {
      const value = Context.getOption(context, tag)
      services = Context.addOrOmit(services, tag, value)
      return value._tag === "None" ? undefined : value.value
    })
    const key = new Isolation(values)
    return this.registered(new Group(this.owner, key, hashKey(key), services, this.drop))
  }

  /** Whether two contexts have the very same isolating services. */
  isSame(self: Context.Context<never>, that: Context.Context<never>): boolean {
    return this.isolate.every((tag) => Object.is(Context.getOrUndefined(self, tag), Context.getOrUndefined(that, tag)))
  }

  /** The group under which these callers are known now: one goes when it is at rest, and another comes. */
  registered(group: Group<Req>): Group<Req> {
    if (group === this.all) return group
    const known = this.known.get(group.key, group.hash)
    if (known !== undefined) return known
    this.known.add(group)
    return group
  }

  values(): ReadonlyArray<Group<Req>> {
    return this.all === undefined ? this.known.values() : [this.all]
  }

  private readonly drop = (group: Group<Req>): void => {
    this.known.remove(group)
    this.onDrop(group)
  }
}
