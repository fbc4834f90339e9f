// A photo with its mask, drawn in a worker: contour, heat map, focus.

import { traceRegions } from "./outline.js";
import { eachRow } from "./resize.js";

// Cyan is far from every skin and lesion tone; the dark edges hold it against glare.
const LINE = "#00ffff";
const EDGE = "#101010";
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
 * @param {{style: string, threshold: number}} look `photo` (nothing is drawn), `contour`, `heat` or `focus`
 */
export function draw(canvas, map, look) {
  const ways = { contour: drawContour, heat: drawHeat, focus: drawFocus };
  ways[look.style]?.(canvas, map, look.threshold);
}

/** The mask as a path on the canvas. */
function path(canvas, map, threshold) {
  const found = new Path2D();
  for (const { outer, holes } of traceRegions(map, threshold, canvas.width, canvas.height)) {
    for (const ring of [outer, ...holes]) {
      found.moveTo(ring[0], ring[1]);
      for (let i = 2; i < ring.length - 2; i += 2) found.lineTo(ring[i], ring[i + 1]);
      found.closePath();
    }
  }
  return found;
}

/** A bright, dark-edged line along the inside of the mask's border, also where that is the photo's edge. */
function drawContour(canvas, map, threshold) {
  const context = canvas.getContext("2d");
  const line = Math.max(2, Math.min(canvas.width, canvas.height) / 200);
  const mask = path(canvas, map, threshold);
  context.lineJoin = "round";
  context.lineWidth = line;
  context.strokeStyle = EDGE;
  context.stroke(mask);
  context.save();
  context.clip(mask, "evenodd");
  for (const [width, colour] of [
    [3 * line, EDGE],
    [2 * line, LINE],
  ]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke(mask);
  }
  context.restore();
}

function drawHeat(canvas, map) {
  const { width, height } = canvas;
  const colours = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (HEAT.length - 1);
    const [low, high] = [HEAT[Math.floor(place)], HEAT[Math.ceil(place)]];
    low.forEach((start, c) => (colours[4 * i + c] = start + (place % 1) * (high[c] - start)));
    colours[4 * i + 3] = 255 * (0.2 + 0.5 * (i / 255));
  }
  const table = new Uint32Array(colours.buffer);
  const sheet = new ImageData(width, height);
  const pixels = new Uint32Array(sheet.data.buffer);
  eachRow(map.values, map.width, map.height, width, height, (row, y) => {
    for (let x = 0; x < width; x++) pixels[y * width + x] = table[(255 * row[x]) | 0];
  });
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(sheet, 0, 0);
  canvas.getContext("2d").drawImage(layer, 0, 0);
}

/** The lesion sharp, its surroundings blurred, greyer and darker. */
function drawFocus(canvas, map, threshold) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const sharp = new OffscreenCanvas(width, height);
  sharp.getContext("2d").drawImage(canvas, 0, 0);
  context.save();
  context.imageSmoothingQuality = "high";
  context.drawImage(blurred(canvas), 0, 0, width, height);
  context.fillStyle = "#8888";
  context.globalCompositeOperation = "saturation";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "#0006";
  context.fillRect(0, 0, width, height);
  context.clip(path(canvas, map, threshold), "evenodd");
  context.drawImage(sharp, 0, 0);
  context.restore();
}

/** Small, to be enlarged: that blurs everywhere, while some browsers' canvases have no filter. */
function blurred(canvas) {
  let from = canvas;
  for (const shrink of [4, 16, 32, 16, 8]) {
    const to = new OffscreenCanvas(Math.ceil(canvas.width / shrink), Math.ceil(canvas.height / shrink));
    const context = to.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(from, 0, 0, to.width, to.height);
    from = to;
  }
  return from;
}
