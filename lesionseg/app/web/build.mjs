// npm run build: src/ bundled, and what is served as it is, into dist/.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";

const RUNTIME = "node_modules/onnxruntime-web/dist";
// The first three run everywhere; the others, twice as large, are fetched only where WebGPU is used.
const RUNTIME_FILES = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.webgpu.min.mjs",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
];

await rm("dist", { recursive: true, force: true });
await mkdir("dist/ort", { recursive: true });
await build({
  entryPoints: ["src/main.js", "src/worker.js", "src/sw.js", "style.css"],
  outdir: "dist",
  entryNames: "[name]",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  logLevel: "warning",
});
await cp("index.html", "dist/index.html");
await cp("manifest.webmanifest", "dist/manifest.webmanifest");
await cp("icons", "dist/icons", { recursive: true });
for (const file of RUNTIME_FILES) await cp(`${RUNTIME}/${file}`, `dist/ort/${file}`);

// What it was built from; lesionseg/app/building.py computes the same and takes no page of other sources.
const LEFT_OUT = ["dist", "node_modules", "package-lock.json"];
const all = await readdir(".", { recursive: true, withFileTypes: true });
const paths = all.filter((entry) => entry.isFile()).map((entry) => `${entry.parentPath}/${entry.name}`.replaceAll("\\", "/").replace(/^\.\//, ""));
const digest = createHash("sha256");
for (const path of paths.filter((path) => !LEFT_OUT.includes(path.split("/")[0])).sort()) {
  const content = createHash("sha256").update(await readFile(path)).digest();
  digest.update(`${path}\0`).update(content);
}
await writeFile("dist/version.txt", digest.digest("hex").slice(0, 16));
