/** A folder as a web server on this machine, and Debian's Chromium to open it with. */
import { createReadStream, existsSync, statSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { delimiter, extname, join, normalize } from "node:path"
import { type Browser, chromium } from "playwright-core"

const types: Readonly<Record<string, string>> = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".map": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2"
}

export interface Served {
  readonly origin: string
  readonly close: () => Promise<void>
}

/** Serves the files of a folder at a port of this machine, a free one by default. */
export const serve = async (folder: string, port = 0): Promise<Served> => {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, "http://localhost")
    // Normalized as an absolute path, so that no ".." leads out of the folder.
    const path = join(folder, normalize(decodeURIComponent(pathname)))
    const file = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? join(path, "index.html") : path
    if (!existsSync(file)) return void response.writeHead(404).end()
    response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" })
    createReadStream(file).pipe(response)
  })
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve))
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}

/** Starts the Chromium of the PATH. */
export const launch = async (): Promise<Browser> => {
  const executablePath = (process.env.PATH ?? "").split(delimiter)
    .flatMap((folder) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(folder, name)))
    .find((file) => existsSync(file))
  if (executablePath === undefined) throw new Error("there is no Chromium: apt-get install chromium")
  return chromium.launch({ executablePath, args: ["--no-sandbox"] })
}
