// What is measured of a mask at the photo's own size. The mask is read row by row as runs of lesion pixels and never held
// as a whole; pieces are runs that touch, also at their corners.

class Pieces {
  constructor() {
    this.parents = [];
    this.pixels = [];
  }

  add(pixels) {
    this.pixels.push(pixels);
    return this.parents.push(this.parents.length) - 1;
  }

  root(piece) {
    while (this.parents[piece] !== piece) piece = this.parents[piece] = this.parents[this.parents[piece]];
    return piece;
  }

  join(first, second) {
    const [to, from] = [this.root(first), this.root(second)];
    if (to === from) return;
    this.parents[from] = to;
    this.pixels[to] += this.pixels[from];
  }

  /** Pixels of each, the largest first. */
  sizes() {
    return this.pixels.filter((_, piece) => this.parents[piece] === piece).sort((a, b) => b - a);
  }
}

export class Measurer {
  /**
   * @param {number} width of the photo, in pixels
   * @param {number} height of the photo, in pixels
   * @param {number} threshold lesion where the probability is at least this
   */
  constructor(width, height, threshold) {
    Object.assign(this, { width, height, threshold: Math.fround(threshold) });
    this.pixels = this.sum = this.frame = this.edge = 0;
    this.pieces = new Pieces();
    this.above = []; // Runs of the row above: start, end, piece.
    this.outline = []; // Both ends of each row that has lesion, x and y by turns: the mask's hull is theirs.
  }

  /** @param {Float32Array} row probabilities */
  add(row, y) {
    const { width, threshold } = this;
    const runs = [];
    for (let x = 0; x < width; x++) {
      if (!(row[x] >= threshold)) continue;
      const start = x;
      while (x < width && row[x] >= threshold) this.sum += row[x++];
      this.pixels += x - start;
      runs.push(start, x, this.pieces.add(x - start));
    }
    if (runs.length) this.outline.push(runs[0], y, runs.at(-2), y);
    this.#connect(runs);
    this.#touch(runs, y);
    this.above = runs;
  }

  #connect(runs) {
    let other = 0;
    const { above } = this;
    for (let at = 0; at < runs.length; at += 3) {
      while (other < above.length && above[other + 1] < runs[at]) other += 3;
      for (let k = other; k < above.length && above[k] <= runs[at + 1]; k += 3) {
        if (above[k + 1] >= runs[at]) this.pieces.join(above[k + 2], runs[at + 2]);
      }
    }
  }

  /** Counts what lies on the photo's frame. */
  #touch(runs, y) {
    const isEnd = y === 0 || y === this.height - 1;
    for (let at = 0; at < runs.length; at += 3) {
      const [start, end] = [runs[at], runs[at + 1]];
      this.frame += isEnd ? end - start : (start === 0) + (end === this.width);
    }
  }

  finish() {
    const { width, height, pixels } = this;
    const sizes = this.pieces.sizes();
    return {
      width,
      height,
      lesion_pixels: pixels,
      lesion_fraction: pixels / (width * height),
      mean_probability: pixels ? this.sum / pixels : null,
      pieces: sizes.length,
      largest_piece: pixels ? sizes[0] / pixels : null,
      frame_share: this.frame / (2 * (width + height) - 4),
      ...hullSizes(this.outline, pixels),
    };
  }
}

/** The hull's corners in order; Andrew's monotone chain. */
function hull(outline) {
  const points = [];
  for (let at = 0; at < outline.length; at += 2) {
    points.push([outline[at], outline[at + 1]], [outline[at], outline[at + 1] + 1]);
  }
  points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const half = (ordered) => {
    const kept = [];
    for (const point of ordered) {
      while (kept.length > 1 && turn(kept.at(-2), kept.at(-1), point) <= 0) kept.pop();
      kept.push(point);
    }
    return kept.slice(0, -1);
  };
  return [...half(points), ...half(points.reverse())];
}

/** Sizes in pixels; null without a lesion. */
function hullSizes(outline, pixels) {
  if (!pixels) return { equivalent_diameter: null, max_diameter: null };
  const corners = hull(outline);
  let longest = 0;
  for (const [x, y] of corners) {
    for (const [u, v] of corners) longest = Math.max(longest, (x - u) ** 2 + (y - v) ** 2);
  }
  return { equivalent_diameter: 2 * Math.sqrt(pixels / Math.PI), max_diameter: Math.sqrt(longest) };
}
