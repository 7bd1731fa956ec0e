/**
 * The rooms of `src`: a folder under `src/internal` is one, and so are the public modules. Files that have no folder yet
 * are listed here.
 */
export const rooms = [
  "data",
  "waits",
  "store",
  "limiter",
  "reducer",
  "scheduler",
  "batcher",
  "redis",
  "http",
  "services"
] as const

export type Room = typeof rooms[number]

/** By the beginning of a file's name: the first that fits. */
const flat: ReadonlyArray<readonly [room: Room, names: RegExp]> = [
  [
    "data",
    /^(keyEqual|keyMap|dueHeap|restList|waiterList|refuse|slices|timers|dispatcher|firstStep|stacklessError|hookCall|insufficientCapacity|guarded)\b/
  ],
  ["store", /^(gcraStore|permitStore|reducerStore|storeFailure|storeGuard)\b/],
  ["redis", /^redis/],
  ["limiter", /^(gcra|limiter|quota|rateLimiterCalls|slotStock|startLog)/],
  ["reducer", /^(reduce|shared)/],
  ["batcher", /^batch/],
  ["http", /^bufferedResponse/],
  ["scheduler", /^(schedule|call|collect|source|progress|keyed|jobQueue|permitPool)/]
]

/** The room of a file, which is given by its path below `src`. */
export const roomOf = (file: string): Room => {
  const [, folder, name = ""] = /^internal\/(?:([^/]+)\/)?(.*)$/.exec(file) ?? []
  if (folder !== undefined) {
    const room = rooms.find((_) => _ === folder)
    if (room === undefined) throw new Error(`src/${file} is in no room: scripts/mutation/rooms.ts`)
    return room
  }
  if (name === "") return file.startsWith("redis/") ? "redis" : "services"
  const room = flat.find(([, names]) => names.test(name))
  if (room === undefined) throw new Error(`src/${file} is in no room: scripts/mutation/rooms.ts`)
  return room[0]
}
