// Outlines of a mask as polygons in the photo's pixels. They come from the probability and not from the mask's pixels: the
// network's answer is smooth between its own pixels, so its level lines are too, at any size.

import { eachRow } from "./resize.js";

const SIDE = 512; // Enough to be looked at.

/** The largest 32-bit number below a positive one: what is exactly at the threshold is lesion. */
function justBelow(value) {
  const floats = new Float32Array([value]);
  new Int32Array(floats.buffer)[0] -= 1;
  return floats[0];
}

/** Where the samples lie along a side: the centres of equal parts, between the ends, twice each. */
function places(count, length) {
  const found = new Float64Array(count + 4);
  for (let i = 0; i < count; i++) found[i + 2] = (i + 0.5) * (length / count);
  found.fill(length, count + 2);
  return found;
}

/** The probability with two rings around it, both on the photo's edge: its value goes on, and drops to nothing at once. */
function framed(map, columns, rows) {
  const line = columns + 4;
  const field = new Float32Array(line * (rows + 4)).fill(-1);
  eachRow(map.values, map.width, map.height, columns, rows, (row, y) => {
    const start = (y + 2) * line;
    field.set(row, start + 2);
    field[start + 1] = row[0];
    field[start + columns + 2] = row[columns - 1];
  });
  field.copyWithin(line, 2 * line, 3 * line);
  field.copyWithin((rows + 2) * line, (rows + 1) * line, (rows + 2) * line);
  return field;
}

// A cell's sides: 0 above, 1 right, 2 below, 3 left. For each pattern of corners that are lesion (1 top left, 2 top right,
// 4 bottom right, 8 bottom left), the sides that lines enter and leave by, with the lesion on their right.
const WAYS = [[], [[0, 3]], [[1, 0]], [[1, 3]], [[2, 1]], null, [[2, 0]], [[2, 3]]];
WAYS.push([[3, 2]], [[0, 2]], null, [[1, 2]], [[3, 1]], [[0, 1]], [[3, 0]], []);
// Two opposite corners: joined where the middle is lesion too.
const SADDLES = {
  5: { joined: [[0, 1], [2, 3]], apart: [[0, 3], [2, 1]] }, // prettier-ignore
  10: { joined: [[3, 0], [1, 2]], apart: [[1, 0], [3, 2]] }, // prettier-ignore
};

/** For the edge that a line crosses, the edge that it crosses next. Edge 2 i runs right from sample i, 2 i + 1 down. */
function link(field, line, level) {
  const next = new Int32Array(2 * field.length).fill(-1);
  for (let row = 0; row + line < field.length; row += line) {
    let left = 0; // The ring around the photo is no lesion.
    for (let i = row; i < row + line - 1; i++) {
      const right = (field[i + 1] > level ? 2 : 0) | (field[i + line + 1] > level ? 4 : 0);
      const pattern = left | right;
      left = ((right >> 1) & 1) | ((right << 1) & 8);
      if (pattern === 0 || pattern === 15) continue;
      const edges = [2 * i, 2 * (i + 1) + 1, 2 * (i + line), 2 * i + 1];
      for (const [from, to] of WAYS[pattern] ?? saddle(pattern, field, i, line, level)) next[edges[from]] = edges[to];
    }
  }
  return next;
}

function saddle(pattern, field, i, line, level) {
  const middle = (field[i] + field[i + 1] + field[i + line] + field[i + line + 1]) / 4;
  return SADDLES[pattern][middle > level ? "joined" : "apart"];
}

/** Signed, in square pixels: positive where x turns towards y. */
export function ringArea(ring) {
  let twice = 0;
  for (let i = 0; i + 3 < ring.length; i += 2) {
    twice += (ring[i] - ring[0]) * (ring[i + 3] - ring[1]) - (ring[i + 2] - ring[0]) * (ring[i + 1] - ring[1]);
  }
  return twice / 2;
}

function isWithin(x, y, ring) {
  let inside = false;
  for (let i = 0; i + 3 < ring.length; i += 2) {
    const [x0, y0, x1, y1] = [ring[i], ring[i + 1], ring[i + 2], ring[i + 3]];
    if (y0 > y !== y1 > y && x < x0 + ((y - y0) / (y1 - y0)) * (x1 - x0)) inside = !inside;
  }
  return inside;
}

/**
 * The regions where a probability, brought to a photo's size, is at least the threshold; the largest first.
 * @param {{values: Float32Array, width: number, height: number}} map
 * @param {number} width of the photo, in pixels
 * @param {number} height of the photo, in pixels
 * @param {number} [side] samples along each side of the photo, at least those of the network
 * @returns {{outer: number[], holes: number[][], area: number}[]} rings are x, y, x, y, ...; the last corner is the first
 */
export function traceRegions(map, threshold, width, height, side = SIDE) {
  const columns = Math.min(width, Math.max(side, map.width));
  const rows = Math.min(height, Math.max(side, map.height));
  const [xs, ys] = [places(columns, width), places(rows, height)];
  const line = columns + 4;
  const field = framed(map, columns, rows);
  const level = justBelow(threshold);
  const next = link(field, line, level);
  const rings = [];
  for (let start = 0; start < next.length; start++) {
    if (next[start] < 0) continue;
    const ring = [];
    for (let edge = start; next[edge] >= 0; ) {
      const i = edge >> 1;
      const j = edge & 1 ? i + line : i + 1;
      const part = (level - field[i]) / (field[j] - field[i]);
      const [x, y, u, v] = [xs[i % line], ys[(i / line) | 0], xs[j % line], ys[(j / line) | 0]];
      ring.push(x + part * (u - x), y + part * (v - y));
      const to = next[edge];
      next[edge] = -1;
      edge = to;
    }
    ring.push(ring[0], ring[1]);
    rings.push(ring);
  }
  return nest(rings);
}

/** Holes to the smallest region around them. */
function nest(rings) {
  const sized = rings.map((ring) => ({ ring, area: ringArea(ring) })).sort((a, b) => a.area - b.area);
  const regions = sized.filter(({ area }) => area > 0).map(({ ring, area }) => ({ outer: ring, holes: [], area }));
  for (const { ring, area } of sized.filter((one) => one.area < 0)) {
    const around = regions.find((region) => isWithin(ring[0], ring[1], region.outer));
    around?.holes.push(ring);
    if (around) around.area += area;
  }
  return regions.sort((a, b) => b.area - a.area);
}
