import { assert, describe, it } from "@effect/vitest"
import { Cause, Channel, Effect, Exit, Scope, Stream } from "effect"
import { fromPull, isStream, pullIn, unwrap } from "../src/internal/data/streams.js"

/** Emits two chunks, then ends as `end` says, and notes when its scope closes. */
const made = (end: Effect.Effect<never, string | Cause.Done>, log: Array<string> = []) =>
  fromPull<number, string, never>((scope) => {
    const chunks = [[1, 2], [3]] as Array<[number, ...Array<number>]>
    const pull = Effect.suspend(() => {
      const chunk = chunks.shift()
      return chunk === undefined ? end : Effect.succeed(chunk)
    })
    return Effect.as(Scope.addFinalizer(scope, Effect.sync(() => void log.push("closed"))), pull)
  })

describe("streams without core's module", () => {
  it("a stream is one to core, and core's streams and nothing else are streams", () => {
    const stream = made(Cause.done())
    assert.isTrue(Stream.isStream(stream))
    assert.isTrue(Channel.isChannel(stream.channel))
    for (const value of [stream, Stream.empty]) assert.isTrue(isStream(value))
    for (const value of [undefined, [], Effect.void, stream.channel]) assert.isFalse(isStream(value))
    assert.strictEqual(stream.pipe((self) => self), stream)
    assert.strictEqual(stream.channel.pipe((self) => self), stream.channel)
  })

  it.effect("core runs it: values in order, its failure, its defect, and its scope closes with it", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const run = (end: Effect.Effect<never, string | Cause.Done>) =>
        Effect.exit(Stream.runCollect(Stream.map(made(end, log), (n) => n * 2)))
      assert.deepStrictEqual(yield* run(Cause.done()), Exit.succeed([2, 4, 6]))
      assert.deepStrictEqual(yield* run(Effect.fail("no")), Exit.fail("no"))
      assert.deepStrictEqual(yield* run(Effect.die("broken")), Exit.die("broken"))
      assert.deepStrictEqual(log, ["closed", "closed", "closed"])
      const dies = fromPull<number, never, never>(() => Effect.die("at once"))
      assert.deepStrictEqual(yield* Effect.exit(Stream.runCollect(dies)), Exit.die("at once"))
    }))

  it.effect("unwrap makes the stream once, in the scope of the stream, and is core's in all else", () =>
    Effect.gen(function*() {
      const coreUnwrap: typeof unwrap = Stream.unwrap
      for (const way of [unwrap, coreUnwrap]) {
        const log: Array<string> = []
        const stream = Effect.acquireRelease(
          Effect.sync(() => (log.push("made"), Stream.make(1, 2))),
          () => Effect.sync(() => void log.push("released"))
        )
        assert.deepStrictEqual(yield* Stream.runCollect(Stream.rechunk(way(stream), 1)), [1, 2])
        assert.deepStrictEqual(log, ["made", "released"])
      }
    }))

  it.effect("pullIn pulls what core's streams emit, chunk by chunk, in the scope it is given", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const scope = yield* Scope.make()
      const source = Stream.ensuring(Stream.rechunk(Stream.make(1, 2, 3), 2), Effect.sync(() => void log.push("end")))
      const pull = yield* pullIn(source, scope)
      assert.deepStrictEqual(yield* pull, [1, 2])
      assert.deepStrictEqual(yield* pull, [3])
      assert.isTrue(Exit.isFailure(yield* Effect.exit(pull)))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(log, ["end"])
    }))
})
