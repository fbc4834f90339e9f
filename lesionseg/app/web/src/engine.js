// The worker as seen from the page: a request in, a promise out.

export class EngineError extends Error {
  constructor(message, isPhoto) {
    super(message);
    this.isPhoto = isPhoto; // The photo's fault, not the program's.
  }
}

export class Engine {
  #next = 0;
  #waiting = new Map();

  /** @param {URL} script of the worker */
  constructor(script) {
    this.worker = new Worker(script, { type: "module" });
    this.worker.onmessage = ({ data }) => this.#settle(data);
    this.worker.onerror = (event) => {
      for (const { reject } of this.#waiting.values()) reject(new EngineError(event.message || "the worker stopped", false));
      this.#waiting.clear();
    };
  }

  /**
   * @param {string} kind a handler of worker.js
   * @param {object} values
   * @param {Transferable[]} transfer
   * @param {(progress: object) => void} [tell]
   */
  ask(kind, values, transfer = [], tell) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, tell });
      this.worker.postMessage({ id, kind, values }, transfer);
    });
  }

  #settle({ id, result, error, isPhoto, progress }) {
    const waiting = this.#waiting.get(id);
    if (progress) return waiting?.tell?.(progress);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new EngineError(error, isPhoto));
  }
}
