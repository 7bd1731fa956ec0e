import { readFileSync } from "node:fs"
import { defineConfig } from "vitepress"

// scripts/site.ts writes the pages and this list of them.
const { description, sidebar, version } = JSON.parse(
  readFileSync(new URL("../.tmp/site.json", import.meta.url), "utf8")
)

export default defineConfig({
  title: "effect-funnel",
  description,
  lang: "en",
  srcDir: ".tmp/pages",
  outDir: "dist",
  cacheDir: ".tmp/cache",
  // A page that is not there ends the build.
  ignoreDeadLinks: false,
  markdown: {
    theme: { light: "github-light", dark: "github-dark" },
    // GitHub's anchors, so that a link to a heading works in both places.
    anchor: { slugify: (text) => text.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(" ", "-") }
  },
  head: [["link", { rel: "icon", href: "data:," }]],
  themeConfig: {
    nav: [
      { text: "Guides", link: "/docs/layers", activeMatch: "/docs/" },
      { text: "API", link: "/api/", activeMatch: "/api/" },
      { text: version, link: "/CHANGELOG" }
    ],
    sidebar,
    outline: { level: [2, 3] },
    search: { provider: "local" }
  }
})
