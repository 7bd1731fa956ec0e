/**
 * What bounds the data of a store, whichever one it is.
 */

/** The longest lease, in microseconds: what another client has written is no reason to wait for longer. */
export const longestLease = 3_600_000_000

/** The name of a key of the user, behind a sign. A store gets bytes, and half a surrogate pair has none of its own. */
export const named = (sign: string, key: string): string => key.isWellFormed() ? sign + key : `~${JSON.stringify(key)}`

/** The same behind `=`, and nothing for the calls without a key. */
export const keyName = (key: string | undefined): string => key === undefined ? "" : named("=", key)

/** The name of a service in front of its keys: free of the signs that begin a key, so that no other pair reads alike. */
export const owner = (name: string): string => name.replaceAll(/%|:=|\}/g, encodeURIComponent)

/** The name of a limiter that has no tag, in front of its keys: no tag and no scheduler has it. */
export const limiterName = (name: string | undefined): string => name === undefined ? "" : `%%${owner(name)}:`
