// The model on this device: WebGPU where that is sensible, else WebAssembly with as many threads as there may be.

import { checkPhoto, difference } from "./selfcheck.js";

const MAX_THREADS = 4;
const TOLERANCE = 0.02; // Mean difference of the check's blocks: int8 rounds differently from one processor to another.

export class Model {
  /** @param {object} info `model.json` */
  constructor(session, ort, info, backend, threads) {
    Object.assign(this, { session, ort, info, backend, threads });
  }

  /**
   * @param {Uint8Array} pixels `height x width x 3`, RGB
   * @returns {Promise<Float32Array>} the lesion's probability, `height x width`
   */
  async run(pixels) {
    const { height, width, input, output } = this.info;
    const tensor = new this.ort.Tensor("uint8", pixels, [1, height, width, 3]);
    const found = await this.session.run({ [input]: tensor }, [output]);
    const values = await found[output].getData();
    for (const result of Object.values(found)) result.dispose();
    return values;
  }
}

/** @returns {Promise<boolean>} whether there is a GPU that is no emulation */
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

/** The ways to try, best first. int8 is made for processors: on a GPU most of its steps would come back to them. */
async function ways(info, wanted) {
  if (wanted === "webgpu") return ["webgpu", "wasm"];
  const isFloat = info.precision.startsWith("float");
  return wanted !== "wasm" && isFloat && (await hasGpu()) ? ["webgpu", "wasm"] : ["wasm"];
}

async function download(url, info, tell) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the model could not be fetched (${response.status})`);
  const data = new Uint8Array(info.bytes);
  let got = 0;
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (got + part.value.length > data.length) throw new Error("the model is larger than model.json says");
    data.set(part.value, got);
    got += part.value.length;
    tell(got / data.length);
  }
  // Only secure pages can hash; elsewhere the length has to do.
  const digest = globalThis.crypto?.subtle ? new Uint8Array(await crypto.subtle.digest("SHA-256", data)) : null;
  const sha256 = digest && [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (got !== data.length || (sha256 && sha256 !== info.sha256)) throw new Error("the model is damaged: reload the page");
  return data;
}

async function open(way, data, info, base, threads) {
  const ort = await import(new URL(`ort/ort.${way}.min.mjs`, base).href);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = new URL("ort/", base).href;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.initTimeout = 60_000;
  // Threads that wait by spinning warm the phone and hold up the page.
  const extra = { session: { intra_op: { allow_spinning: "0" } } };
  const session = await ort.InferenceSession.create(data, { executionProviders: [way], logSeverityLevel: 3, extra });
  const model = new Model(session, ort, info, way, threads);
  const apart = difference(await model.run(checkPhoto(info.width, info.height)), info.width, info.height, info.check);
  if (!(apart <= TOLERANCE)) {
    await session.release();
    throw new Error(`it computes other numbers here than it should (${apart.toFixed(3)} apart)`);
  }
  return model;
}

/**
 * @param {string} base where the page's files are
 * @param {{backend?: string, threads?: number}} wanted
 * @param {(part: number) => void} tell told of the download's progress, in [0, 1]
 * @returns {Promise<{model: Model, notes: string[]}>} the model, and why a better way was not taken
 */
export async function openModel(base, wanted, tell) {
  const described = await fetch(new URL("model.json", base));
  if (!described.ok) throw new Error(`model.json could not be fetched (${described.status})`);
  const info = await described.json();
  const data = await download(new URL("model.onnx", base), info, tell);
  const most = wanted.threads ?? Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1);
  const threads = globalThis.crossOriginIsolated ? most : 1;
  const notes = [];
  for (const way of await ways(info, wanted.backend)) {
    try {
      return { model: await open(way, data, info, base, threads), notes };
    } catch (error) {
      notes.push(`${way === "webgpu" ? "WebGPU" : "WebAssembly"}: ${error.message}`);
    }
  }
  throw new Error(`the model does not run here: ${notes.join("; ")}`);
}
