/**
 * Layers of which all services of a program share one for each client and name.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * Makes the layer of a name. A layer is built once in a program, so it is the same one for the same client, and another one
 * for another client.
 */
export const perClient = <Id, Client extends object, A, E, R>(
  client: Context.Key<Id, Client>,
  make: (name: string) => Layer.Layer<A, E, R>
): (name: string) => Layer.Layer<A, E, R | Id> => {
  const layers = new WeakMap<Client, Map<string, Layer.Layer<A, E, R>>>()
  return (name) =>
    Layer.unwrap(Effect.map(Effect.service(client), (client) => {
      const ofClient = layers.get(client) ?? new Map<string, Layer.Layer<A, E, R>>()
      layers.set(client, ofClient)
      const layer = ofClient.get(name) ?? make(name)
      ofClient.set(name, layer)
      return layer
    }))
}
