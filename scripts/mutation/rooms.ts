/** The rooms of `src`: each folder under `src/internal` is one, and the public modules are another. */
export const rooms = [
  "data",
  "seen",
  "waits",
  "store",
  "limiter",
  "reducer",
  "scheduler",
  "batcher",
  "shared",
  "redis",
  "postgres",
  "inspect",
  "http",
  "dashboard",
  "services"
] as const

export type Room = typeof rooms[number]

/** Returns the room of a file, given by its path below `src`. */
export const roomOf = (file: string): Room => {
  const folder = /^internal\/([^/]+)\//.exec(file)?.[1]
  if (folder === undefined && !file.startsWith("internal/")) {
    return file.startsWith("redis/") ? "redis" : file.startsWith("postgres/") ? "postgres" : "services"
  }
  const room = rooms.find((_) => _ === folder)
  if (room === undefined) throw new Error(`src/${file} is in no room: scripts/mutation/rooms.ts`)
  return room
}
