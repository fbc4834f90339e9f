// Whether a picture may be a dermoscopy photo at all: lesionseg/inference/plausibility.py in the browser, number for number.
// The fitted numbers and the words come with the model's description.

const ROWS = 96;
const [BLACK, WHITE] = [28, 245];
const [DOWN, ACROSS] = [12, 16]; // The coarse grid.
const RING = 2;
const FURTHEST = 6;
const [FEWEST, FEWEST_CELLS] = [20, 5];
const MOST = 0.9;
const [CORE_DOWN, CORE_ACROSS] = [
  [4, 8],
  [5, 11],
];

function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function deviation(values) {
  const middle = mean(values);
  let sum = 0;
  for (const value of values) sum += (value - middle) * (value - middle);
  return Math.sqrt(sum / values.length);
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** The values at places that count; all where next to none do: a black picture has properties, too. */
function pick(values, counts) {
  const found = new Float64Array(values.length);
  let size = 0;
  for (let i = 0; i < values.length; i++) if (counts[i]) found[size++] = values[i];
  return size < FEWEST ? values : found.subarray(0, size);
}

/** Means of whole blocks, to about 96 rows: models differ in size. */
function shrink(pixels, width, height) {
  const block = Math.max(1, Math.floor(height / ROWS + 0.5));
  const [columns, rows] = [Math.floor(width / block), Math.floor(height / block)];
  const [r, g, b] = [0, 1, 2].map(() => new Float64Array(columns * rows));
  for (let y = 0; y < rows * block; y++) {
    const row = Math.floor(y / block) * columns;
    for (let column = 0, at = 3 * y * width; column < columns; column++) {
      for (let x = 0; x < block; x++, at += 3) {
        r[row + column] += pixels[at];
        g[row + column] += pixels[at + 1];
        b[row + column] += pixels[at + 2];
      }
    }
  }
  for (const channel of [r, g, b]) for (let i = 0; i < channel.length; i++) channel[i] /= block * block;
  return { columns, rows, r, g, b };
}

/** The share of pixels, black ones aside, that are exactly like their left neighbour. */
function flat(pixels, width, height) {
  let same = 0;
  for (let y = 0; y < height; y++) {
    for (let at = 3 * (y * width + 1), end = 3 * (y + 1) * width; at < end; at += 3) {
      if (pixels[at] !== pixels[at - 3] || pixels[at + 1] !== pixels[at - 2] || pixels[at + 2] !== pixels[at - 1]) continue;
      if (pixels[at] >= BLACK || pixels[at + 1] >= BLACK || pixels[at + 2] >= BLACK) same++;
    }
  }
  return same / (height * (width - 1));
}

/** Contrast with the right and with the lower neighbour, and both; the last row and column have none. */
function edges(depth, columns, rows) {
  const size = (columns - 1) * (rows - 1);
  const [right, below, both] = [0, 1, 2].map(() => new Float64Array(size));
  for (let y = 0, i = 0; y < rows - 1; y++) {
    for (let x = 0; x < columns - 1; x++, i++) {
      const at = y * columns + x;
      right[i] = Math.abs(depth[at + 1] - depth[at]);
      below[i] = Math.abs(depth[at + columns] - depth[at]);
      both[i] = Math.sqrt(right[i] * right[i] + below[i] * below[i]);
    }
  }
  return { right, below, both };
}

/** 1 where a place counts and those to the right and below do, too. */
function withNeighbours(counts, columns, rows) {
  const found = new Uint8Array((columns - 1) * (rows - 1));
  for (let y = 0, i = 0; y < rows - 1; y++) {
    for (let at = y * columns; at < (y + 1) * columns - 1; at++) found[i++] = counts[at] & counts[at + 1] & counts[at + columns];
  }
  return found;
}

/** The share of all contrast that runs along rows or columns. */
function straight({ right, below }, counts) {
  const [across, down] = [pick(right, counts), pick(below, counts)];
  let [along, all] = [0, 0];
  for (let i = 0; i < across.length; i++) {
    const most = Math.max(across[i], down[i]);
    all += most * most;
    if (Math.min(across[i], down[i]) < 0.2 * most) along += most * most;
  }
  return along / (all + 1e-6);
}

/** Means over the coarse grid. */
function cells(values, columns, rows) {
  const found = [];
  for (let v = 0; v < DOWN; v++) {
    const [top, bottom] = [Math.floor((v * rows) / DOWN), Math.floor(((v + 1) * rows) / DOWN)];
    for (let u = 0; u < ACROSS; u++) {
      const [left, right] = [Math.floor((u * columns) / ACROSS), Math.floor(((u + 1) * columns) / ACROSS)];
      let sum = 0;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += values[y * columns + x];
      found.push(sum / ((bottom - top) * (right - left)));
    }
  }
  return found;
}

/** The contrast of neighbours in the cells: what a quarter of them stay below, and what three quarters do. */
function texture({ both }, lit, columns, rows) {
  const known = cells(lit, columns - 1, rows - 1).map((part) => part > MOST);
  const sorted = Float64Array.from(pick(cells(both, columns - 1, rows - 1), known)).sort();
  return [0.25, 0.75].map((part) => Math.log(sorted[Math.floor(part * (sorted.length - 1))] + 0.002));
}

/** Mean step of the colour from one cell to the next. */
function change(red, blue, known) {
  const [steps, counts] = [[], []];
  const step = (one, other) => {
    steps.push(Math.hypot(red[other] - red[one], blue[other] - blue[one]));
    counts.push(known[one] && known[other]);
  };
  for (let cell = 0; cell < DOWN * ACROSS; cell++) {
    if (cell % ACROSS < ACROSS - 1) step(cell, cell + 1);
    if (cell < (DOWN - 1) * ACROSS) step(cell, cell + ACROSS);
  }
  return mean(pick(steps, counts));
}

/** How unevenly the frame is lit, and how much brighter the middle is. */
function layout(depth, known) {
  const [ring, core] = [[], []];
  for (let v = 0; v < DOWN; v++) {
    for (let u = 0; u < ACROSS; u++) {
      if (Math.min(v, DOWN - 1 - v, u, ACROSS - 1 - u) < RING) ring.push(v * ACROSS + u);
      if (v >= CORE_DOWN[0] && v < CORE_DOWN[1] && u >= CORE_ACROSS[0] && u < CORE_ACROSS[1]) core.push(v * ACROSS + u);
    }
  }
  const seen = ring.filter((cell) => known[cell]);
  const frame = (seen.length > FEWEST_CELLS ? seen : ring).map((cell) => depth[cell]);
  return [Math.log(deviation(frame) + 0.01), median(core.map((cell) => depth[cell])) - median(frame)];
}

/**
 * @param {Uint8Array} pixels `height x width x 3`, RGB, as they go into the model
 * @returns {number[]} the properties of `describe`
 */
export function describe(pixels, width, height) {
  const { columns, rows, r, g, b } = shrink(pixels, width, height);
  const size = columns * rows;
  const [depth, luma, red, blue, strength] = [0, 1, 2, 3, 4].map(() => new Float64Array(size));
  const lit = new Uint8Array(size);
  let [white, middle, dark, green] = [0, 0, 0, 0];
  for (let y = 0, i = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, i++) {
      const [most, least] = [Math.max(r[i], g[i], b[i]), Math.min(r[i], g[i], b[i])];
      lit[i] = Number(most >= BLACK);
      luma[i] = 0.299 * r[i] + 0.587 * g[i] + 0.114 * b[i];
      depth[i] = Math.log(luma[i] + 16);
      red[i] = Math.log((r[i] + 16) / (g[i] + 16));
      blue[i] = Math.log((b[i] + 16) / (g[i] + 16));
      strength[i] = (most - least) / (most + 1);
      white += Number(least > WHITE);
      const [across, down] = [((x + 0.5) / columns) * 2 - 1, ((y + 0.5) / rows) * 2 - 1];
      if (across * across + down * down >= 0.36) continue;
      middle++;
      dark += 1 - lit[i];
    }
  }
  const only = (values) => pick(values, lit);
  for (const value of only(red)) green += Number(value < -0.03);
  const [found, inner] = [edges(depth, columns, rows), withNeighbours(lit, columns, rows)];
  const coarse = (values) => cells(values, columns, rows);
  const known = coarse(lit).map((part) => part > MOST);
  return [
    Math.sqrt(dark / middle),
    Math.sqrt(white / size),
    Math.log(deviation(only(depth)) + 0.01),
    median(only(luma)) / 255,
    median(only(red)),
    Math.log(deviation(only(blue)) + 0.01),
    Math.sqrt(green / only(red).length),
    median(only(strength)),
    straight(found, inner),
    Math.sqrt(flat(pixels, width, height)),
    Math.log(change(coarse(red), coarse(blue), known) + 0.005),
    ...texture(found, inner, columns, rows),
    ...layout(coarse(depth), known),
  ];
}

/**
 * @param {Uint8Array} pixels `height x width x 3`, RGB, as they go into the model
 * @param {{limit: number, traits: object[]}} table `plausibility` of model.json
 * @returns {string | null} why the picture is probably no dermoscopy photo
 */
export function implausible(pixels, width, height, { limit, traits }) {
  const values = describe(pixels, width, height);
  const steps = traits.map(({ middle, step }, i) => Math.min(FURTHEST, Math.max(-FURTHEST, (values[i] - middle) / step)));
  const told = traits.map(({ weight, bend }, i) => weight * steps[i] + bend * steps[i] ** 2);
  if (told.reduce((sum, value) => sum + value, 0) <= limit) return null;
  const worst = told.indexOf(Math.max(...told));
  return `perhaps no dermoscopy photo: ${steps[worst] > 0 ? traits[worst].high : traits[worst].low}`;
}
