// From a file or a camera frame to pixels.

import { PhotoFitter, draftOf } from "./resize.js";
import { decodingRefusal, refusal, sizeRefusal, sniff } from "./sniff.js";
import { turnOf, turned, withoutExif } from "./turn.js";

const HEAD = 1 << 20; // EXIF with previews comes before a JPEG's size.
const STRIP = 256;

/** What cannot be opened, in words for the user. */
export class PhotoError extends Error {}

/**
 * @param {Blob} blob
 * @returns {Promise<{bitmap: ImageBitmap, isJpeg: boolean}>} upright, with the file's own numbers: no colour management, no
 *   alpha, as in Python
 */
export async function openPhoto(blob) {
  const head = new Uint8Array(await blob.slice(0, HEAD).arrayBuffer());
  const reason = refusal(head, blob.size);
  if (reason) throw new PhotoError(reason);
  const { format } = sniff(head);
  const turn = format === "WebP" ? await turnOf(blob) : null;
  let bitmap;
  try {
    bitmap = await createImageBitmap(turn ? withoutExif(blob, turn) : blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
    if (turn) bitmap = turned(bitmap, turn);
  } catch (error) {
    throw new PhotoError(decodingRefusal(head), { cause: error });
  }
  const unfit = sizeRefusal(bitmap.width, bitmap.height);
  if (unfit) {
    bitmap.close();
    throw new PhotoError(unfit);
  }
  return { bitmap, isJpeg: format === "JPEG" };
}

let strip = null; // Used again: a canvas for each frame would fill the memory before it is collected.

/**
 * @param {ImageBitmap} bitmap
 * @param {{width: number, height: number}} size in pixels
 * @param {boolean} isJpeg Python shrinks a large JPEG in two steps
 * @returns {Uint8Array} `height x width x 3`, RGB
 */
export function fit(bitmap, { width, height }, isJpeg) {
  const shrink = isJpeg ? draftOf(bitmap.width, bitmap.height, width, height) : 1;
  const fitter = new PhotoFitter(bitmap.width, bitmap.height, width, height, shrink);
  if (strip?.width !== bitmap.width) strip = new OffscreenCanvas(bitmap.width, STRIP);
  const context = strip.getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "copy";
  for (let top = 0; top < bitmap.height; top += STRIP) {
    const rows = Math.min(STRIP, bitmap.height - top);
    context.drawImage(bitmap, 0, top, bitmap.width, rows, 0, 0, bitmap.width, rows);
    fitter.add(context.getImageData(0, 0, bitmap.width, rows).data, top, rows);
  }
  return fitter.finish();
}

/**
 * The photo on a canvas whose longer side has `least` to `most` pixels.
 * @param {OffscreenCanvas} [canvas] to be used again
 */
export function onCanvas(bitmap, [most, least] = [Infinity, 0], canvas = new OffscreenCanvas(1, 1)) {
  const longer = Math.max(bitmap.width, bitmap.height);
  const scale = Math.max(least, Math.min(most, longer)) / longer;
  canvas.width = Math.round(bitmap.width * scale) || 1;
  canvas.height = Math.round(bitmap.height * scale) || 1;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "medium";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}
