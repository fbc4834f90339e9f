// Whether a picture may be a dermoscopy photo at all: lesionseg/inference/plausibility.py in the browser, number for number.
// The fitted numbers and the words come with the model's description.

const ROWS = 96;
const [BLACK, WHITE] = [28, 245];
const [DOWN, ACROSS] = [12, 16]; // The coarse grid.
const RING = 2;
const FURTHEST = 6;
const FEWEST = 20;

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

/** What one of twenty exceeds. */
const upper = (values) => Float64Array.from(values).sort()[Math.floor(0.95 * (values.length - 1))];

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

/** Mean contrast of neighbours, and the share of all contrast that runs along rows or columns. */
function edges(depth, seen, columns, rows) {
  const places = [];
  for (let y = 0; y < rows - 1; y++) for (let x = 0; x < columns - 1; x++) places.push(y * columns + x);
  const isInside = (at) => seen[at] && seen[at + columns] && seen[at + 1];
  const inside = places.filter(isInside);
  let [length, straight, all] = [0, 0, 0];
  const used = inside.length < FEWEST ? places : inside;
  for (const at of used) {
    const [right, below] = [Math.abs(depth[at + 1] - depth[at]), Math.abs(depth[at + columns] - depth[at])];
    const [least, most] = [Math.min(right, below), Math.max(right, below)];
    length += Math.sqrt(right ** 2 + below ** 2);
    all += most ** 2;
    if (least < 0.2 * most) straight += most ** 2;
  }
  return [Math.log(length / used.length + 0.002), straight / (all + 1e-6)];
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

/** Constant, slope and bowl over so many places, orthonormal. */
function waves(count) {
  const place = Array.from({ length: count }, (_, i) => (2 * i) / (count - 1) - 1);
  const middle = mean(place.map((x) => x * x));
  return [place.map(() => 1), place, place.map((x) => x * x - middle)].map((wave) => {
    const norm = Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0));
    return wave.map((value) => value / norm);
  });
}

/** The share of the variance that a coarse grid keeps, and the share of that which slopes and bowls explain. */
function layout(depth, columns, rows) {
  const grid = cells(depth, columns, rows);
  const middle = mean(grid);
  const apart = grid.map((value) => value - middle);
  const [tall, wide] = [waves(DOWN), waves(ACROSS)];
  const along = (a, b) => apart.reduce((sum, value, i) => sum + value * tall[a][Math.floor(i / ACROSS)] * wide[b][i % ACROSS], 0) ** 2;
  const smooth = along(0, 1) + along(1, 0) + along(1, 1) + along(0, 2) + along(2, 0);
  const all = apart.reduce((sum, value) => sum + value ** 2, 0);
  return [deviation(grid) ** 2 / (deviation(depth) ** 2 + 1e-6), smooth / (all + 1e-3)];
}

/** How much the colour changes along the frame. */
function border(red, blue, lit, columns, rows) {
  const ring = [];
  for (let v = 0; v < DOWN; v++) {
    for (let u = 0; u < ACROSS; u++) {
      if (Math.min(v, DOWN - 1 - v, u, ACROSS - 1 - u) < RING) ring.push(v * ACROSS + u);
    }
  }
  const light = cells(lit, columns, rows);
  const seen = ring.filter((cell) => light[cell] > 0.9);
  const where = seen.length > 5 ? seen : ring;
  const spread = (values) => {
    const grid = cells(values, columns, rows);
    return deviation(where.map((cell) => grid[cell]));
  };
  return Math.log(Math.hypot(spread(red), spread(blue)) + 0.01);
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
  return [
    Math.sqrt(share(middle, (value) => !value)),
    Math.sqrt(share(least, (value) => value > WHITE)),
    Math.log(deviation(only(depth)) + 0.01),
    median(only(luma)) / 255,
    median(only(red)),
    Math.log(deviation(only(red)) + 0.01),
    Math.log(deviation(only(blue)) + 0.01),
    Math.sqrt(share(only(red), (value) => value < -0.03)),
    median(strength),
    upper(strength),
    ...edges(depth, seen, columns, rows),
    ...layout(depth, columns, rows),
    Math.sqrt(flat(pixels, width, height)),
    border(red, blue, lit, columns, rows),
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
