/**
 * Random graphs of runs that reduce other keys, beside a model that knows who waits for whom by brute force.
 *
 * The model sees what happens from the outside only: which call came, which of the effects began and ended, which call
 * returned, and which was interrupted. From that it says for each call whether it joins, waits behind a dying run or starts
 * a run of its own, and whether it would wait for itself.
 */
import { describe, expect, it } from "@effect/vitest"
import type { Fiber } from "effect"
import { Cause, Deferred, Effect, Exit, Scope } from "effect"
import { Reducer } from "effect-funnel"
import { random } from "../support/random.js"

interface ModelRun {
  readonly key: number
  readonly callers: Set<Call>
  /** The call whose effect it is, once it has begun. */
  origin: Call | undefined
  ended: boolean
  /** Behind which run it waits. */
  behind: ModelRun | undefined
  next: ModelRun | undefined
}

interface Call {
  readonly id: number
  readonly key: number
  /** Interrupting the run that it is made from does not interrupt it: it is made by a finalizer or by a fiber let loose. */
  readonly stays: boolean
  owner: ModelRun | undefined
  target: ModelRun | undefined
  interrupted: boolean
  waiting: boolean
  result: Exit.Exit<unknown, unknown> | undefined
}

type Step =
  | { readonly _tag: "Gate" }
  | { readonly _tag: "Reduce" | "Fork"; readonly key: number; readonly script: Script }

interface Script {
  readonly steps: ReadonlyArray<Step>
  readonly end: "succeed" | "fail" | "die" | "interrupt"
  readonly finalizer: ReadonlyArray<Step>
}

const keys = 4

const simulate = (seed: number) =>
  Effect.gen(function*() {
    const next = random(seed)
    const scope = yield* Scope.make()
    const reducer = yield* Scope.provide(Reducer.make({}), scope)
    let closed = false
    const seen = { cycles: 0, runs: 0, joins: 0, behind: 0 }
    // Thrown inside of what is modelled it would be one more defect of a run.
    const problems: Array<string> = []
    const check = (holds: boolean, law: string) => {
      if (!holds) problems.push(law)
    }

    // ------------------------------------------------------------------------------------------------------ the model
    const current = new Map<number, ModelRun>()
    const calls: Array<Call> = []
    const live = new Set<ModelRun>()

    const gone = (call: Call): boolean =>
      call.interrupted || (!call.stays && call.owner !== undefined && dying(call.owner))
    const dying = (run: ModelRun): boolean => Array.from(run.callers).every(gone)
    const dead = (run: ModelRun): boolean => run.ended || (run.origin === undefined && dying(run))

    const leadsTo = (from: ModelRun, to: ModelRun, been = new Set<ModelRun>()): boolean => {
      if (from === to) return true
      if (from.ended || been.has(from)) return false
      been.add(from)
      if (from.behind !== undefined && leadsTo(from.behind, to, been)) return true
      return calls.some((call) =>
        call.waiting && call.owner === from && call.target !== undefined && leadsTo(call.target, to, been)
      )
    }

    const fresh = (key: number, behind: ModelRun | undefined): ModelRun => ({
      key,
      callers: new Set(),
      origin: undefined,
      ended: false,
      behind,
      next: undefined
    })

    /** Whether the call would wait for itself; if not, what it waits for is known from here on. */
    const enters = (call: Call): boolean => {
      if (call.owner?.ended === true) call.owner = undefined
      const found = current.get(call.key)
      let target: ModelRun
      if (found === undefined || dead(found)) {
        target = fresh(call.key, undefined)
        current.set(call.key, target)
      } else if (!dying(found)) {
        target = found
        seen.joins++
        if (call.owner !== undefined && leadsTo(target, call.owner)) return true
      } else {
        const waits = found.next !== undefined && !dead(found.next) ? found.next : undefined
        target = waits ?? fresh(call.key, found)
        seen.behind++
        if (call.owner !== undefined && leadsTo(target, call.owner)) return true
        found.next = target
      }
      target.callers.add(call)
      call.target = target
      call.waiting = true
      return false
    }

    const begins = (call: Call): ModelRun => {
      const run = call.target!
      seen.runs++
      check(run.origin === undefined, "R1 a run has one effect")
      check(run.behind?.ended ?? true, "R4 what is behind a dying run starts after it")
      const first = Array.from(run.callers).find((caller) => !gone(caller))
      check(first === call, "R4 the effect is that of the first call still there")
      if (current.get(run.key) === run) {
        for (const other of live) check(other.key !== run.key || forgotten.has(other), "R4 one run of a key")
      }
      run.origin = call
      run.behind = undefined
      live.add(run)
      return run
    }
    const forgotten = new Set<ModelRun>()

    const ends = (run: ModelRun): void => {
      run.ended = true
      live.delete(run)
      const after = run.next
      if (after !== undefined) after.behind = undefined
      if (current.get(run.key) !== run) return
      if (after !== undefined && !dead(after)) current.set(run.key, after)
      else current.delete(run.key)
    }

    // ---------------------------------------------------------------------------------------------- what is modelled
    const gates: Array<Deferred.Deferred<void>> = []
    const fibers: Array<readonly [call: Call, fiber: Fiber.Fiber<unknown, unknown>, interruptible: boolean]> = []

    const call = (key: number, script: Script, owner: ModelRun | undefined, stays: boolean) => {
      const self: Call = {
        id: calls.length,
        key,
        stays,
        owner,
        target: undefined,
        interrupted: false,
        waiting: false,
        result: undefined
      }
      calls.push(self)
      const effect = Effect.suspend(() => {
        const cycle = !closed && enters(self)
        return Effect.onExit(reducer.reduce(key, run(self, script)), (exit) => {
          self.waiting = false
          self.result = exit
          if (closed) return Effect.void
          const died = exit._tag === "Failure" &&
            exit.cause.reasons.some((reason) =>
              Cause.isDieReason(reason) && reason.defect instanceof Reducer.ReducerCycle
            )
          if (died) seen.cycles++
          check(died === cycle, `R7 call ${self.id} of key ${key} ${cycle ? "would" : "would not"} wait for itself`)
          if (!cycle && !gone(self)) {
            check(self.target!.ended, "R1 a caller gets the exit of a run that has ended")
            if (exit._tag === "Success") check(exit.value === self.target!.origin!.id, "R1 R4 it is that run's exit")
          }
          return Effect.void
        })
      })
      return { self, effect }
    }

    const run = (self: Call, script: Script): Effect.Effect<number, string> =>
      Effect.suspend(() => {
        if (closed) return Effect.succeed(self.id)
        const owner = begins(self)
        return steps(owner, script.steps, false).pipe(
          Effect.andThen(Effect.suspend((): Effect.Effect<number, string> => {
            switch (script.end) {
              case "succeed":
                return Effect.succeed(self.id)
              case "fail":
                return Effect.fail("no")
              case "die":
                return Effect.die("bug")
              case "interrupt":
                return Effect.interrupt
            }
          })),
          Effect.onExit(() => steps(owner, script.finalizer, true)),
          Effect.onExit(() => Effect.sync(() => ends(owner)))
        )
      })

    const steps = (owner: ModelRun, list: ReadonlyArray<Step>, stays: boolean): Effect.Effect<void> =>
      Effect.forEach(list, (step) => {
        switch (step._tag) {
          case "Gate": {
            const gate = Deferred.makeUnsafe<void>()
            gates.push(gate)
            return Deferred.await(gate)
          }
          case "Reduce":
            return Effect.exit(call(step.key, step.script, owner, stays).effect)
          case "Fork": {
            const { effect, self } = call(step.key, step.script, owner, true)
            return Effect.map(
              Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
              (fiber) => void fibers.push([self, fiber, true])
            )
          }
        }
      }, { discard: true })

    const makeScript = (depth: number): Script => {
      const step = (): Step => {
        const what = depth === 0 ? 0 : next(5)
        return what < 2
          ? { _tag: "Gate" }
          : { _tag: what === 4 ? "Fork" : "Reduce", key: next(keys), script: makeScript(depth - 1) }
      }
      return {
        steps: Array.from({ length: next(4) }, step),
        end: (["succeed", "succeed", "succeed", "fail", "die", "interrupt"] as const)[next(6)]!,
        finalizer: Array.from({ length: next(5) < 2 ? 1 + next(2) : 0 }, step)
      }
    }

    const turns = Effect.repeat(Effect.yieldNow, { times: 5 })
    for (let step = 0; step < 40; step++) {
      const what = next(14)
      if (what < 5) {
        const { effect, self } = call(next(keys), makeScript(3), undefined, next(8) === 0)
        fibers.push([
          self,
          yield* Effect.forkDetach(self.stays ? Effect.uninterruptible(effect) : effect, { startImmediately: true }),
          !self.stays
        ])
      } else if (what < 9 && fibers.length > 0) {
        const [self, fiber, interruptible] = fibers[next(fibers.length)]!
        if (fiber.pollUnsafe() === undefined && interruptible) {
          self.interrupted = true
          fiber.interruptUnsafe()
        }
      } else if (what < 13 && gates.length > 0) {
        Deferred.doneUnsafe(gates.splice(next(gates.length), 1)[0]!, Exit.void)
      } else if (what === 13 && next(3) === 0) {
        const key = next(keys)
        yield* reducer.forget(key)
        for (let one = current.get(key); one !== undefined; one = one.next) forgotten.add(one)
        current.delete(key)
      }
      yield* turns
    }

    let closing: Fiber.Fiber<void> | undefined
    if (next(3) === 0) {
      closed = true
      closing = yield* Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true })
    }
    for (let round = 0; round < 60; round++) {
      yield* turns
      while (gates.length > 0) Deferred.doneUnsafe(gates.shift()!, Exit.void)
    }
    for (const [self, fiber] of fibers) {
      expect(fiber.pollUnsafe() !== undefined, `R7 call ${self.id} of key ${self.key} hangs`).toBe(true)
    }
    for (const one of calls) expect(one.waiting).toBe(false)
    if (closing !== undefined) expect(closing.pollUnsafe()).toEqual(Exit.void)
    expect(yield* reducer.inFlight).toEqual([])
    yield* Scope.close(scope, Exit.void)
    expect(problems.join("; ")).toBe("")
    return seen
  })

describe("Reducer beside its model", () => {
  it.effect("R1 to R9 hold for random graphs of runs: a call dies of a cycle exactly when it would wait for itself", () =>
    Effect.gen(function*() {
      const all = { cycles: 0, runs: 0, joins: 0, behind: 0 }
      for (let seed = 1; seed <= 250; seed++) {
        const seen = yield* simulate(seed).pipe(
          Effect.catchCause((cause) => Effect.die(new Error(`seed ${seed}: ${Cause.squash(cause)}`)))
        )
        for (const what of ["cycles", "runs", "joins", "behind"] as const) all[what] += seen[what]
      }
      // Enough of each, or nothing was tested.
      for (const count of Object.values(all)) expect(count).toBeGreaterThan(200)
    }))
})
