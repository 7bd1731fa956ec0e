/** The built package, as its users get it: `npm run bench` builds it first. */
import { Context, Effect, Layer, Scope } from "effect"

export * from "../dist/index.js"

/** The service of a layer, held for the life of the process. */
export const build = <I, S>(tag: Context.Key<I, S>, layer: Layer.Layer<I>): S =>
  Effect.runSync(Effect.map(Layer.buildWithScope(layer, Scope.makeUnsafe()), (context) => Context.get(context, tag)))
