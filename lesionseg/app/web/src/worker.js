// Everything that takes time, away from the page: decoding, the model, measuring, drawing. Requests are answered in turn.

import { PhotoError, fit, onCanvas, openPhoto } from "./decode.js";
import { fitLive, onFilm } from "./live.js";
import { measure } from "./measure.js";
import { implausible } from "./plausible.js";
import { maskPng } from "./png.js";
import { draw } from "./render.js";
import { eachRow } from "./resize.js";
import { look as judge } from "./review.js";
import { openModel } from "./session.js";

const SHOWN = [1400, 800]; // Most and least pixels of a picture's longer side on the screen; a contour needs some.
const SHOWN_LIVE = [640, 0];
const THUMBNAIL = [160, 0];

let model = null;
const photos = new Map(); // Key -> {blob, width, height, map, doubt, quality}: the small probability stays, pixels are decoded anew.
let shown = { key: null, bitmap: null }; // The one photo on the screen, at the screen's size.

function show(key, canvas) {
  shown.bitmap?.close();
  shown = { key, bitmap: canvas.transferToImageBitmap() };
}

/** @returns {Promise<string>} hex, as predictions.csv has it; "" on pages that are not secure */
async function sha256(blob) {
  if (!globalThis.crypto?.subtle) return "";
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Uint8Array} pixels as the model takes them */
async function infer(pixels) {
  const { width, height } = model.info;
  return { values: await model.run(pixels), width, height };
}

/** What is said of a mask: its measures, the Dice to expect, and why to look at it. */
function measured({ width, height, map, doubt, quality }, threshold) {
  const measures = measure(map, threshold, width, height);
  // A peak between two pixels of the photo is none of its mask.
  const seen = measures.lesion_pixels ? map : { ...map, values: new Float32Array(map.values.length) };
  const { expected_dice, reasons } = judge(seen, threshold, quality);
  return { ...measures, expected_dice, reasons: doubt ? [doubt, ...reasons] : reasons };
}

function drawn(bitmap, map, look, sides) {
  const canvas = onCanvas(bitmap, sides);
  draw(canvas, map, look);
  return canvas;
}

const handlers = {
  async load({ base, wanted }, tell) {
    const opened = await openModel(base, wanted, (part) => tell({ part }));
    await model?.session.release();
    model = opened.model;
    return { info: model.info, backend: model.backend, threads: model.threads, notes: opened.notes };
  },

  async photo({ key, blob, threshold }) {
    const start = performance.now();
    const { bitmap, isJpeg } = await openPhoto(blob);
    const decoded = performance.now();
    try {
      const pixels = fit(bitmap, model.info, isJpeg);
      const fitted = performance.now();
      const map = await infer(pixels);
      const before = performance.now();
      const doubt = implausible(pixels, map.width, map.height, model.info.plausibility);
      const { quality, sha256: model_sha256 } = model.info; // Of the model that made the map, whichever comes later.
      const photo = { blob, width: bitmap.width, height: bitmap.height, map, doubt, quality };
      photos.set(key, photo);
      const measures = measured(photo, threshold);
      const end = performance.now();
      const ms = { decode: decoded - start, fit: fitted - decoded, infer: before - fitted, measure: end - before, all: end - start };
      const canvas = onCanvas(bitmap, SHOWN);
      const thumbnail = onCanvas(canvas, THUMBNAIL).transferToImageBitmap();
      show(key, canvas);
      return { measures, ms, thumbnail, sha256: await sha256(blob), model_sha256 };
    } finally {
      bitmap.close();
    }
  },

  async render({ key, look }) {
    const photo = photos.get(key);
    if (shown.key !== key) {
      const { bitmap } = await openPhoto(photo.blob);
      show(key, onCanvas(bitmap, SHOWN));
      bitmap.close();
    }
    const canvas = drawn(shown.bitmap, photo.map, look, SHOWN);
    return { bitmap: canvas.transferToImageBitmap(), measures: measured(photo, look.threshold) };
  },

  async frame({ frame, look }) {
    const start = performance.now();
    const canvas = await onFilm(frame, SHOWN_LIVE);
    const map = await infer(fitLive(canvas, model.info));
    draw(canvas, map, look);
    let lesion = 0;
    for (const value of map.values) lesion += value >= look.threshold;
    const fraction = lesion / map.values.length;
    return { bitmap: canvas.transferToImageBitmap(), fraction, ms: performance.now() - start };
  },

  async mask({ key, threshold }) {
    const { width, height, map } = photos.get(key);
    const limit = Math.fround(threshold);
    const mask = new Uint8Array(width * height);
    eachRow(map.values, map.width, map.height, width, height, (row, y) => {
      for (let x = 0; x < width; x++) mask[y * width + x] = row[x] >= limit;
    });
    return { blob: await maskPng(mask, width, height) };
  },

  async overlay({ key, look }) {
    const photo = photos.get(key);
    const { bitmap } = await openPhoto(photo.blob);
    const canvas = drawn(bitmap, photo.map, look);
    bitmap.close();
    return { blob: await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }) };
  },

  async measure({ key, threshold }) {
    return { measures: measured(photos.get(key), threshold) };
  },

  async forget({ key }) {
    photos.delete(key);
    return {};
  },
};

async function answer({ id, kind, values }) {
  try {
    const result = await handlers[kind](values, (progress) => self.postMessage({ id, progress }));
    const transfer = Object.values(result).filter((value) => value instanceof ImageBitmap);
    self.postMessage({ id, result }, { transfer });
  } catch (error) {
    self.postMessage({ id, error: error.message, isPhoto: error instanceof PhotoError });
  }
}

let last = Promise.resolve();
self.onmessage = ({ data }) => {
  last = last.then(() => answer(data));
};
