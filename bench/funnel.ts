/** The built package, as its users get it. `npm run bench` builds it first. */
import { Context, Effect, Layer, Scope } from "effect"

export * from "../dist/index.js"

/** The service of a layer and the scope that holds it. */
export const scoped = <I, S>(
  tag: Context.Key<I, S>,
  layer: Layer.Layer<I>
): Effect.Effect<readonly [S, Scope.Closeable]> => {
  const scope = Scope.makeUnsafe()
  return Effect.map(Layer.buildWithScope(layer, scope), (context) => [Context.get(context, tag), scope])
}

/** Builds the service of a layer as programs do, and keeps it for the life of the process. */
export const build = async <I, S>(tag: Context.Key<I, S>, layer: Layer.Layer<I>): Promise<S> =>
  (await Effect.runPromise(scoped(tag, layer)))[0]
