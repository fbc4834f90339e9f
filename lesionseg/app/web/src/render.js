// A photo with its mask, drawn in a worker: contour, heat map, focus.

import { eachRow } from "./resize.js";

export const STYLES = ["photo", "contour", "heat", "focus"];

// Alpha, blue, green, red. Cyan is far from every skin and lesion tone; the dark edges hold it against glare.
const LINE = 0xffffff00;
const EDGE = 0xff101010;
// Viridis, whose blues and greens are no colours of skin.
const HEAT = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
];

/**
 * Draws on a canvas that holds the photo.
 * @param {OffscreenCanvas} canvas
 * @param {{values: Float32Array, width: number, height: number}} map the probability, at any size
 * @param {{style: string, threshold: number}} look
 */
export function draw(canvas, map, look) {
  if (look.style === "photo") return;
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.getImageData(0, 0, width, height);
  const probability = new Float32Array(width * height);
  eachRow(map.values, map.width, map.height, width, height, (row, y) => probability.set(row, y * width));
  const paint = { contour: paintContour, heat: paintHeat, focus: paintFocus }[look.style];
  paint(picture.data, probability, Math.fround(look.threshold), canvas);
  context.putImageData(picture, 0, 0);
}

/**
 * Distance to the nearest pixel that is 0, in thirds of a pixel, up to 85 pixels. The picture has a margin of one pixel, whose
 * values stay 255: outside it nothing is 0.
 */
function spreadDistances(far, width, height) {
  const line = width + 2;
  for (let y = 1; y <= height; y++) {
    for (let i = y * line + 1, end = i + width; i < end; i++) {
      if (!far[i]) continue;
      const straight = Math.min(far[i - 1], far[i - line]) + 3;
      const slanted = Math.min(far[i - line - 1], far[i - line + 1]) + 4;
      far[i] = Math.min(far[i], straight, slanted);
    }
  }
  for (let y = height; y > 0; y--) {
    for (let i = y * line + width, end = i - width; i > end; i--) {
      if (!far[i]) continue;
      const straight = Math.min(far[i + 1], far[i + line]) + 3;
      const slanted = Math.min(far[i + line + 1], far[i + line - 1]) + 4;
      far[i] = Math.min(far[i], straight, slanted);
    }
  }
}

/** A bright, dark-edged line along the inside of the mask's border. */
function paintContour(pixels, probability, threshold, { width, height }) {
  const line = 3 * Math.max(2, Math.round(Math.min(width, height) / 220));
  const edge = Math.max(3, line / 2);
  const inside = new Uint8Array((width + 2) * (height + 2)).fill(255);
  const outside = inside.slice();
  for (let y = 0, i = 0, at = width + 3; y < height; y++, at += 2) {
    for (let x = 0; x < width; x++, i++, at++) {
      if (probability[i] >= threshold) outside[at] = 0;
      else inside[at] = 0;
    }
  }
  spreadDistances(inside, width, height);
  spreadDistances(outside, width, height);
  const colours = new Uint32Array(pixels.buffer);
  for (let y = 0, i = 0, at = width + 3; y < height; y++, at += 2) {
    for (let x = 0; x < width; x++, i++, at++) {
      if (outside[at] > edge) continue;
      // The line also runs along the frame: a mask that fills the photo must not look like an empty one.
      const depth = Math.min(inside[at], 3 * (1 + Math.min(x, y, width - 1 - x, height - 1 - y)));
      if (outside[at] || (depth > line && depth <= line + edge)) colours[i] = EDGE;
      else if (depth <= line) colours[i] = LINE;
    }
  }
}

function paintHeat(pixels, probability) {
  for (let i = 0; i < probability.length; i++) {
    const place = probability[i] * (HEAT.length - 1);
    const [low, high] = [HEAT[Math.floor(place)], HEAT[Math.ceil(place)]];
    const part = place % 1;
    const cover = 0.2 + 0.5 * probability[i];
    for (let c = 0; c < 3; c++) {
      const colour = low[c] + part * (high[c] - low[c]);
      pixels[4 * i + c] += cover * (colour - pixels[4 * i + c]);
    }
  }
}

/** The lesion sharp, its surroundings blurred, greyer and darker. */
function paintFocus(pixels, probability, threshold, canvas) {
  const soft = blurred(canvas);
  for (let i = 0; i < probability.length; i++) {
    const away = 1 - Math.min(1, Math.max(0, (probability[i] - threshold) * 8 + 0.5));
    if (!away) continue;
    const at = 4 * i;
    const grey = 0.299 * soft[at] + 0.587 * soft[at + 1] + 0.114 * soft[at + 2];
    for (let c = 0; c < 3; c++) {
      const dim = 0.62 * (0.5 * grey + 0.5 * soft[at + c]);
      pixels[at + c] += away * (dim - pixels[at + c]);
    }
  }
}

/** Shrinking and enlarging blurs everywhere; the filter of canvases is missing in some browsers. */
function blurred(canvas) {
  const { width, height } = canvas;
  let from = canvas;
  for (const shrink of [4, 16, 32, 8, 1]) {
    const to = new OffscreenCanvas(Math.max(1, Math.round(width / shrink)), Math.max(1, Math.round(height / shrink)));
    const context = to.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(from, 0, 0, to.width, to.height);
    from = to;
  }
  return from.getContext("2d").getImageData(0, 0, width, height).data;
}
