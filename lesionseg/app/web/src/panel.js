// What is said of a mask, and of the model.

const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

function fill(list, rows) {
  list.replaceChildren(...rows.map(([name, value]) => element("div", element("dt", name), element("dd", value))));
}

export const percent = (part) => `${(100 * part).toFixed(part < 0.1 ? 2 : 1)} %`;

export function showMeasures(list, measures, ms) {
  const { width, height, lesion_pixels: pixels, mean_probability: mean } = measures;
  const size = (value) => `${count.format(value)} px`;
  fill(list, [
    ["Share of the photo", percent(measures.lesion_fraction)],
    ["Area", `${count.format(pixels)} px²`],
    ...(measures.components ? [["Longest diameter", size(measures.longest_diameter)]] : []),
    ...(measures.components ? [["Equivalent diameter", size(measures.equivalent_diameter)]] : []),
    ...(pixels ? [["Mean probability inside", mean.toFixed(3)]] : []),
    ...(measures.expected_dice === null ? [] : [["Expected Dice", measures.expected_dice.toFixed(2)]]),
    ["Photo", `${width} × ${height} px`],
    ...(ms ? [["Time", `${Math.round(ms.all)} ms (model ${Math.round(ms.infer)} ms)`]] : []),
  ]);
}

export function showReview(line, reasons) {
  line.hidden = !reasons.length;
  line.textContent = `Needs review: ${reasons.join("; ")}.`;
}

const BACKENDS = { wasm: "WebAssembly", webgpu: "WebGPU" };

/** @returns {string} how the model runs, in a few words */
export function speedLine({ backend, threads }) {
  if (backend === "webgpu") return "WebGPU";
  return `${threads} ${threads === 1 ? "thread" : "threads"}`;
}

export function showAbout(list, { info, backend, threads, notes }) {
  fill(list, [
    ["Model", `${info.name}, ${info.checkpoint}, ${info.precision}`],
    ["Input", `${info.width} × ${info.height} px`],
    ["File", `${(info.bytes / 1e6).toFixed(1)} MB, SHA-256 ${info.sha256.slice(0, 12)}…`],
    ["Runs on", `${BACKENDS[backend]}, ${threads} ${threads === 1 ? "thread" : "threads"}`],
    ...(globalThis.crossOriginIsolated ? [] : [["Threads", "this host allows one; after the first visit, reload for more"]]),
    ...notes.map((note) => ["Not used", note]),
    ["Program", `lesionseg ${info.lesionseg_version}`],
    ["Licence", info.licence],
  ]);
}
