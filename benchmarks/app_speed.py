"""How long the page of ``lesionseg app`` takes from a photo's file to its mask, in headless Chromium.

    python benchmarks/app_speed.py PHOTO MODEL.onnx [MODEL.onnx ...] [--threads 1,2] [--backend wasm] [--rounds 30]

The models and thread counts take turns, so that a busy machine slows all of them alike; the fastest round is told.
`cpu` is the processor time of the whole browser for one round, the median: it hardly depends on what else runs.
Needs playwright and Chromium, and Linux for `cpu`.
"""

import argparse
import base64
import os
import shutil
import statistics
import threading
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import sync_playwright

from lesionseg.app.server import Address, open_server
from lesionseg.app.site import make_site

# The page's own worker, without the page; `shown` is the time until the picture with its contour is there.
OPEN = """async ([threads, backend, data]) => {
  const worker = new Worker("worker.js", { type: "module" });
  let next = 0;
  const ask = (kind, values) => new Promise((resolve, reject) => {
    const id = next++;
    worker.addEventListener("message", function answer({ data }) {
      if (data.id !== id || data.progress) return;
      worker.removeEventListener("message", answer);
      data.error === undefined ? resolve(data.result) : reject(new Error(data.error));
    });
    worker.postMessage({ id, kind, values });
  });
  const blob = new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
  const start = performance.now();
  const base = new URL("./", location.href).href;
  const { backend: found, threads: count } = await ask("load", { base, wanted: { threads, backend } });
  const load = performance.now() - start;
  window.round = async () => {
    const start = performance.now();
    const { ms } = await ask("photo", { key: 1, blob, threshold: 0.5 });
    const before = performance.now();
    await ask("render", { key: 1, look: { style: "contour", threshold: 0.5 } });
    return { ...ms, draw: performance.now() - before, shown: performance.now() - start };
  };
  return { backend: found, threads: count, load };
}"""
COLUMNS = ("decode", "fit", "infer", "measure", "all", "draw", "shown")


def processor_time() -> float:
    """Milliseconds that this process's descendants have used so far."""
    parents, used = {}, {}
    for place in Path("/proc").iterdir():
        try:
            fields = (place / "stat").read_text().rpartition(") ")[2].split() if place.name.isdigit() else None
        except OSError:
            continue
        if fields:
            parents[int(place.name)] = int(fields[1])
            used[int(place.name)] = int(fields[11]) + int(fields[12])

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return 1000 / os.sysconf("SC_CLK_TCK") * sum(ticks for pid, ticks in used.items() if is_ours(pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--backend", default="wasm", choices=("wasm", "webgpu"))
    parser.add_argument("--rounds", type=int, default=30)
    words = parser.parse_args()
    data = base64.b64encode(words.photo.read_bytes()).decode()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["--no-sandbox"]
    if words.backend == "webgpu":
        flags += ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--ignore-gpu-blocklist"]
    pages = {}
    with ExitStack() as stack:
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=chromium, args=flags)
        for model in words.models:
            server = stack.enter_context(open_server(make_site(model), Address(port=0)))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for threads in map(int, words.threads.split(",")):
                page = browser.new_page()
                # Any file of the right origin and headers will do; the page itself would start a worker too.
                page.goto(f"{server.url}manifest.webmanifest")
                found = page.evaluate(OPEN, [threads, words.backend, data])
                pages[model, f"{found['backend']}, {found['threads']}"] = page
        times: dict = {key: [] for key in pages}
        for _ in range(words.rounds):
            for key, page in pages.items():
                before = processor_time()
                found = page.evaluate("window.round()")
                times[key].append(found | {"cpu": processor_time() - before})
        browser.close()
    print("| model | MB | backend, threads | " + " | ".join(COLUMNS) + " | cpu |")
    print("|---|---|---|" + "---|" * (len(COLUMNS) + 1))
    for (model, way), rounds in times.items():
        best = [f"{min(one[column] for one in rounds):.0f}" for column in COLUMNS]
        best.append(f"{statistics.median(one['cpu'] for one in rounds):.0f}")
        print(f"| {model.stem} | {model.stat().st_size / 1e6:.1f} | {way} | {' | '.join(best)} |")


if __name__ == "__main__":
    main()
