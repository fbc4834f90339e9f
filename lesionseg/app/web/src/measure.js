// What is measured of a mask. Counts are of the whole mask at the photo's own size; everything else is of its largest region
// with the holes filled: the lesion, without specks elsewhere and hairs within. Lengths are in the photo's pixels.

import { traceRegions } from "./outline.js";
import { eachRow } from "./resize.js";

const ANGLES = 180;
const SIDE = 256; // Samples of the outline along each side of the photo, as in Python.

/**
 * @param {{values: Float32Array, width: number, height: number}} map
 * @param {number} threshold lesion where the probability is at least this
 * @param {number} width of the photo, in pixels
 * @param {number} height of the photo, in pixels
 */
export function measure(map, threshold, width, height) {
  const counts = count(map, threshold, width, height);
  // A peak between two pixels of the photo is none of its mask.
  const regions = counts.lesion_pixels ? traceRegions(map, threshold, width, height, SIDE) : [];
  return { width, height, ...counts, ...shape(regions, width, height) };
}

function count(map, threshold, width, height) {
  const limit = Math.fround(threshold);
  let pixels = 0;
  let sum = 0;
  eachRow(map.values, map.width, map.height, width, height, (row) => {
    for (let x = 0; x < width; x++) {
      if (row[x] < limit) continue;
      pixels++;
      sum += row[x];
    }
  });
  return { lesion_pixels: pixels, lesion_fraction: pixels / (width * height), mean_probability: pixels ? sum / pixels : null };
}

/** Of regions, the largest first; empty without a lesion. */
export function shape(regions, width, height) {
  if (!regions.length) return { components: 0 };
  const ring = regions[0].outer;
  const { area, minor, major } = moments(ring);
  const { perimeter, along } = lengths(ring, width, height);
  const { longest, hull } = extents(ring);
  return {
    components: regions.length,
    largest_share: regions[0].area / regions.reduce((sum, region) => sum + region.area, 0),
    area,
    perimeter,
    major_axis: 4 * Math.sqrt(major),
    minor_axis: 4 * Math.sqrt(minor),
    equivalent_diameter: 2 * Math.sqrt(area / Math.PI),
    longest_diameter: longest,
    compactness: perimeter ** 2 / (4 * Math.PI * area),
    solidity: Math.min(1, area / hull),
    edge_share: along / perimeter,
  };
}

/** Of the outline, and of its part along the photo's edge. */
function lengths(ring, width, height) {
  let perimeter = 0;
  let along = 0;
  for (let i = 0; i + 3 < ring.length; i += 2) {
    const [x0, y0, x1, y1] = [ring[i], ring[i + 1], ring[i + 2], ring[i + 3]];
    const step = Math.hypot(x1 - x0, y1 - y0);
    perimeter += step;
    if ((x0 === x1 && (x0 === 0 || x0 === width)) || (y0 === y1 && (y0 === 0 || y0 === height))) along += step;
  }
  return { perimeter, along };
}

/** Area and the variances along the axes, of the points within, by Green's theorem. */
function moments(ring) {
  const [left, top] = ring;
  let [twice, mx, my, xx, yy, xy] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i + 3 < ring.length; i += 2) {
    const [x0, y0, x1, y1] = [ring[i] - left, ring[i + 1] - top, ring[i + 2] - left, ring[i + 3] - top];
    const cross = x0 * y1 - x1 * y0;
    twice += cross;
    mx += cross * (x0 + x1);
    my += cross * (y0 + y1);
    xx += cross * (x0 * x0 + x0 * x1 + x1 * x1);
    yy += cross * (y0 * y0 + y0 * y1 + y1 * y1);
    xy += cross * (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0);
  }
  const area = twice / 2;
  [mx, my] = [mx / (6 * area), my / (6 * area)];
  [xx, yy, xy] = [xx / (12 * area) - mx * mx, yy / (12 * area) - my * my, xy / (24 * area) - mx * my];
  const middle = (xx + yy) / 2;
  const half = Math.hypot((xx - yy) / 2, xy);
  return { area, minor: Math.max(0, middle - half), major: middle + half };
}

/** The largest width seen from 180 directions, and the area of the hull as those see it. */
function extents(ring) {
  let longest = 0;
  const [ends, starts] = [[], []];
  for (let k = 0; k < ANGLES; k++) {
    const [c, s] = [Math.cos((k * Math.PI) / ANGLES), Math.sin((k * Math.PI) / ANGLES)];
    let [low, high, first, last] = [Infinity, -Infinity, 0, 0];
    for (let i = 0; i < ring.length; i += 2) {
      const place = ring[i] * c + ring[i + 1] * s;
      if (place < low) [low, first] = [place, i];
      if (place > high) [high, last] = [place, i];
    }
    longest = Math.max(longest, high - low);
    ends.push(last);
    starts.push(first);
  }
  const corners = [...ends, ...starts];
  let twice = 0;
  corners.forEach((a, at) => {
    const b = corners[(at + 1) % corners.length];
    twice += (ring[a] - ring[0]) * (ring[b + 1] - ring[1]) - (ring[b] - ring[0]) * (ring[a + 1] - ring[1]);
  });
  return { longest, hull: Math.abs(twice) / 2 };
}
