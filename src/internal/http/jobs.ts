/**
 * A request as a job of a scheduler, or of the scheduler of its key.
 */
import type * as Duration from "effect/Duration"
import { jobOptions, type ScheduleOptions } from "../scheduler/options.js"
import { fixed, type PerRequest, resolve } from "./service.js"

/** The options of a job, each of them for all requests or by the request. */
export interface Options<in Request> {
  readonly weight?: PerRequest<number, Request> | undefined
  readonly tokens?: PerRequest<number, Request> | undefined
  readonly priority?: PerRequest<number, Request> | undefined
  readonly maxWait?: PerRequest<Duration.Input, Request> | undefined
  readonly share?: PerRequest<NonNullable<ScheduleOptions["share"]>, Request> | undefined
}

/** Returns the options of the job of a request. Throws where one is invalid for all requests. */
export const jobOf = <Request>(
  caller: string,
  { maxWait, priority, share, tokens, weight }: Options<Request>
): (request: Request) => ScheduleOptions => {
  jobOptions(caller, {
    weight: fixed(weight),
    tokens: fixed(tokens),
    priority: fixed(priority),
    maxWait: fixed(maxWait),
    share: fixed(share)
  })
  return (request) => ({
    weight: resolve(weight, request),
    tokens: resolve(tokens, request),
    priority: resolve(priority, request),
    maxWait: resolve(maxWait, request),
    share: resolve(share, request)
  })
}

/** The scheduler of a request: the one that is given, or that of the request's key. */
export const schedulerOf = <K, S extends object>(
  given: S | { readonly get: (key: K) => S },
  key: () => K
): S => "get" in given ? given.get(key()) : given
