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

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const share = (values, is) => values.reduce((count, value) => count + Number(is(value)), 0) / values.length;

function deviation(values) {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / values.length);
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Means of whole blocks, to about 96 rows: models differ in size. */
function shrink(pixels, width, height) {
  const block = Math.max(1, Math.floor(height / ROWS + 0.5));
  const [columns, rows] = [Math.floor(width / block), Math.floor(height / block)];
  const found = [0, 1, 2].map(() => new Float64Array(columns * rows));
  for (let y = 0; y < rows * block; y++) {
    for (let x = 0; x < columns * block; x++) {
      const cell = Math.floor(y / block) * columns + Math.floor(x / block);
      for (let c = 0; c < 3; c++) found[c][cell] += pixels[3 * (y * width + x) + c];
    }
  }
  for (const channel of found) channel.forEach((sum, i) => (channel[i] = sum / block ** 2));
  return { columns, rows, channels: found };
}

/** The share of pixels, black ones aside, that are exactly like their left neighbour. */
function flat(pixels, width, height) {
  let same = 0;
  for (let y = 0; y < height; y++) {
    for (let at = 3 * (y * width + 1), end = 3 * (y + 1) * width; at < end; at += 3) {
      const [red, green, blue] = [pixels[at], pixels[at + 1], pixels[at + 2]];
      if (red !== pixels[at - 3] || green !== pixels[at - 2] || blue !== pixels[at - 1]) continue;
      same += Math.max(red, green, blue) >= BLACK;
    }
  }
  return same / (height * (width - 1));
}

/** All of it where there is next to nothing: a black picture has properties, too. */
const enough = (all, is) => {
  const found = all.filter(is);
  return found.length < FEWEST ? all : found;
};

/** Contrast with the right and with the lower neighbour; the last row and column have none. */
function edges(depth, seen, columns, rows) {
  const found = [];
  for (let y = 0; y < rows - 1; y++) {
    for (let x = 0; x < columns - 1; x++) {
      const at = y * columns + x;
      const [right, below] = [Math.abs(depth[at + 1] - depth[at]), Math.abs(depth[at + columns] - depth[at])];
      found.push({ right, below, isSeen: Boolean(seen[at] && seen[at + columns] && seen[at + 1]) });
    }
  }
  return found;
}

/** The share of all contrast that runs along rows or columns. */
function straight(found) {
  let [along, all] = [0, 0];
  for (const { right, below } of enough(found, ({ isSeen }) => isSeen)) {
    const most = Math.max(right, below);
    all += most ** 2;
    if (Math.min(right, below) < 0.2 * most) along += most ** 2;
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
function texture(found, columns, rows) {
  const known = cells(found.map(({ isSeen }) => Number(isSeen)), columns - 1, rows - 1);
  const contrasts = cells(found.map(({ right, below }) => Math.hypot(right, below)), columns - 1, rows - 1);
  const used = enough([...contrasts.keys()], (cell) => known[cell] > MOST).map((cell) => contrasts[cell]);
  const sorted = Float64Array.from(used).sort();
  return [0.25, 0.75].map((part) => Math.log(sorted[Math.floor(part * (sorted.length - 1))] + 0.002));
}

/** Mean step of the colour from one cell to the next. */
function change(red, blue, known) {
  const pairs = [];
  for (let cell = 0; cell < DOWN * ACROSS; cell++) {
    if (cell % ACROSS < ACROSS - 1) pairs.push([cell, cell + 1]);
    if (cell < (DOWN - 1) * ACROSS) pairs.push([cell, cell + ACROSS]);
  }
  const used = enough(pairs, ([one, other]) => known[one] && known[other]);
  return mean(used.map(([one, other]) => Math.hypot(red[other] - red[one], blue[other] - blue[one])));
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
  const { columns, rows, channels } = shrink(pixels, width, height);
  const [r, g, b] = channels;
  const most = r.map((_, i) => Math.max(r[i], g[i], b[i]));
  const least = r.map((_, i) => Math.min(r[i], g[i], b[i]));
  const lit = most.map((value) => Number(value >= BLACK));
  const seen = lit.reduce((sum, value) => sum + value, 0) >= FEWEST ? lit : lit.map(() => 1);
  const only = (values) => values.filter((_, i) => seen[i]);
  const luma = r.map((_, i) => 0.299 * r[i] + 0.587 * g[i] + 0.114 * b[i]);
  const depth = luma.map((value) => Math.log(value + 16));
  const red = r.map((_, i) => Math.log((r[i] + 16) / (g[i] + 16)));
  const blue = b.map((_, i) => Math.log((b[i] + 16) / (g[i] + 16)));
  const strength = only(most.map((_, i) => (most[i] - least[i]) / (most[i] + 1)));
  const middle = lit.filter((_, i) => {
    const [x, y] = [(((i % columns) + 0.5) / columns) * 2 - 1, ((Math.floor(i / columns) + 0.5) / rows) * 2 - 1];
    return x * x + y * y < 0.36;
  });
  const coarse = (values) => cells(values, columns, rows);
  const known = coarse(lit).map((part) => part > MOST);
  return [
    Math.sqrt(share(middle, (value) => !value)),
    Math.sqrt(share(least, (value) => value > WHITE)),
    Math.log(deviation(only(depth)) + 0.01),
    median(only(luma)) / 255,
    median(only(red)),
    Math.log(deviation(only(blue)) + 0.01),
    Math.sqrt(share(only(red), (value) => value < -0.03)),
    median(strength),
    straight(edges(depth, seen, columns, rows)),
    Math.sqrt(flat(pixels, width, height)),
    Math.log(change(coarse(red), coarse(blue), known) + 0.005),
    ...texture(edges(depth, lit, columns, rows), columns, rows),
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
