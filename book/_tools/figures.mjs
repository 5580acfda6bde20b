// Builds adakd/explore/static/built: each live figure and what it imports as one module, and the hashes of the sources by
// which a test knows that the modules are theirs. `node book/_tools/figures.mjs`, or `make figures`.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const STATIC = fileURLToPath(new URL("../../adakd/explore/static/", import.meta.url));
const BUILT = `${STATIC}built/`;
const FIGURES = [
  "gradient",
  "limit",
  "playground",
  "progress",
  "ranking",
  "sentence",
  "taylor",
  "temperature",
  "zoo",
];

// Of the book's pages alone. Built for themselves: what one build has decides the short names in all of it, and notebooks
// hold the figures as they are.
const PAGES = ["advice"];

rmSync(BUILT, { recursive: true, force: true });
for (const names of [FIGURES, PAGES])
  await build({
    entryPoints: names.map((name) => `${STATIC}${name}.js`),
    outdir: BUILT,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    external: ["./from-python.js"], // put in by adakd/explore/module.py
  });

const sources = readdirSync(STATIC).filter((name) => name.endsWith(".js"));
const lines = sources.sort().map((name) => {
  const hash = createHash("sha256").update(readFileSync(STATIC + name));
  return `${hash.digest("hex")}  ${name}\n`;
});
writeFileSync(`${BUILT}sources.sha256`, lines.join(""));
