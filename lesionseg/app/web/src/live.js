// Live frames from the camera to pixels, twenty times a second: whatever can be is used again.

import { onCanvas } from "./decode.js";

let bytes = new Uint8ClampedArray(0); // Of the frame as the camera gives it.
const whole = new OffscreenCanvas(1, 1); // The same, to be drawn from.
const film = new OffscreenCanvas(1, 1); // As it is shown.
const eye = new OffscreenCanvas(1, 1); // As the model sees it.
let seen = new Uint8Array(0);

function resize(canvas, width, height) {
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
}

/**
 * @param {VideoFrame} frame with plain pixels, see `isPlain` of camera.js
 * @returns {Promise<OffscreenCanvas | ImageBitmap>} Chromium without a graphics card keeps the pixels of hundreds of frames
 *   that were drawn or made into a bitmap, out of reach of its garbage collector; copied frames leave nothing behind.
 */
async function copied(frame) {
  const { width, height } = frame.visibleRect;
  if (bytes.length !== 4 * width * height) bytes = new Uint8ClampedArray(4 * width * height);
  try {
    await frame.copyTo(bytes, { format: "RGBA" });
  } catch {
    return createImageBitmap(frame); // Its pixels may be in a graphics card that does not give them away.
  }
  resize(whole, width, height);
  whole.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(bytes, width, height), 0, 0);
  return whole;
}

/**
 * @param {VideoFrame | ImageBitmap} frame closed afterwards
 * @param {[number, number]} sides as of `onCanvas`
 * @returns {Promise<OffscreenCanvas>} the frame to draw on; the next one is drawn over it
 */
export async function onFilm(frame, sides) {
  let picture = frame;
  try {
    if (!(frame instanceof ImageBitmap)) picture = await copied(frame);
    return onCanvas(picture, sides, film);
  } finally {
    frame.close();
    if (picture instanceof ImageBitmap) picture.close();
  }
}

/**
 * As the model takes it. Shrunk by the browser, in a tenth of the time that Python's way takes: the model hardly sees the
 * difference.
 * @param {OffscreenCanvas} picture
 * @param {{width: number, height: number}} size in pixels
 * @returns {Uint8Array} `height x width x 3`, RGB; the next frame is written over it
 */
export function fitLive(picture, { width, height }) {
  resize(eye, width, height);
  if (seen.length !== 3 * width * height) seen = new Uint8Array(3 * width * height);
  const context = eye.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "medium";
  context.drawImage(picture, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    seen[to++] = data[from];
    seen[to++] = data[from + 1];
    seen[to++] = data[from + 2];
  }
  return seen;
}
