// The page without a network. Files are kept under their path and digest, so that an update fetches only what has changed.
// Whatever is served from here carries the headers that threads need, also where the web host cannot set them.

const FILES = self.FILES; // Path -> digest; `lesionseg app` writes it in front of this script.
const CACHE = "lesionseg";
const ON_DEMAND = /webgpu|asyncify/; // Twice the size of all the rest, and used by few.

const base = new URL("./", self.location);
const keyOf = (path) => new URL(`${path}?${FILES[path]}`, base).href;

async function keep(path) {
  const cache = await caches.open(CACHE);
  const found = await cache.match(keyOf(path));
  if (found) return found;
  const response = await fetch(new URL(path, base), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  // While the host's files are being replaced, one may still be the old one: it would be kept under the new one's digest.
  const data = await response.arrayBuffer();
  if ((await digestOf(data)) !== FILES[path]) throw new Error(`${path} is of another version`);
  const kept = new Response(data, { headers: response.headers });
  await cache.put(keyOf(path), kept.clone());
  return kept;
}

async function digestOf(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data)).subarray(0, 8);
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

self.addEventListener("install", (event) => {
  const wanted = Object.keys(FILES).filter((path) => !ON_DEMAND.test(path));
  event.waitUntil(Promise.all(wanted.map(keep)).then(() => self.skipWaiting()));
});

async function tidy() {
  const cache = await caches.open(CACHE);
  const known = new Set(Object.keys(FILES).map(keyOf));
  for (const request of await cache.keys()) if (!known.has(request.url)) await cache.delete(request);
  await self.clients.claim();
}

self.addEventListener("activate", (event) => event.waitUntil(tidy()));

async function serve(path) {
  const response = await keep(path);
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, headers });
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || !url.href.startsWith(base.href)) return;
  const path = url.pathname.slice(base.pathname.length) || "index.html";
  if (path in FILES) event.respondWith(serve(path));
});
