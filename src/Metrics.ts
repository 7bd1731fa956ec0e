import * as Layer from "effect/Layer"
import { meter } from "./internal/seen/meter.js"
import { Meter } from "./internal/seen/seen.js"

export const layer: Layer.Layer<never> = /*#__PURE__*/ Layer.succeed(Meter, meter)
