// Pillow's antialiased bilinear resizing, number for number, so that the page and the Python program see the same picture.
// A canvas cannot do it: how drawImage shrinks is up to the browser.

const PRECISION = 22; // Bits after the point of Pillow's 8-bit weights.

/**
 * For each output pixel, the first input pixel that counts and the weights of those that do.
 * @param {number} from input pixels
 * @param {number} to output pixels
 * @param {number} limit how many input pixels there are, where the last one is a part
 * @returns {{size: number, first: Int32Array, count: Int32Array, weights: Float64Array}} `size` weights per output pixel
 */
function spread(from, to, limit = from) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  const size = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Float64Array(to * size);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(limit, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let x = start; x < end; x++) {
      const weight = Math.max(0, 1 - Math.abs((x - centre + 0.5) * (1 / support)));
      weights[i * size + x - start] = weight;
      sum += weight;
    }
    for (let x = start; x < end; x++) weights[i * size + x - start] /= sum;
    first[i] = start;
    count[i] = end - start;
  }
  return { size, first, count, weights };
}

/**
 * The same with weights as Pillow's fixed-point numbers, for 8-bit pixels.
 * @param {number} shrink by how much the pixels are averaged first
 */
function spread8(from, to, shrink = 1) {
  const reduced = spread(from / shrink, to, Math.ceil(from / shrink));
  const fixed = Int32Array.from(reduced.weights, (weight) => Math.trunc(0.5 + weight * (1 << PRECISION)));
  if (shrink === 1) return { ...reduced, weights: fixed };
  const size = reduced.size * shrink;
  const weights = new Int32Array(to * size);
  const first = reduced.first.map((start) => start * shrink);
  const count = reduced.count.map((number, i) => Math.min(number * shrink, from - first[i]));
  for (let i = 0; i < to; i++) {
    for (let k = 0; k < count[i]; k++) {
      const place = Math.floor(k / shrink);
      const shared = Math.min(shrink, count[i] - place * shrink);
      weights[i * size + k] = Math.round(fixed[i * reduced.size + place] / shared);
    }
  }
  return { size, first, count, weights };
}

/**
 * By how much Python shrinks a JPEG while it decodes it: 1, 2, 4 or 8. The decoder's own shrinking is the mean of so many
 * pixels each way, which can be had afterwards; the model then sees the same.
 */
export function draftOf(width, height, toWidth, toHeight) {
  const most = Math.min(Math.floor(width / (2 * toWidth)), Math.floor(height / (2 * toHeight)));
  return [8, 4, 2].find((shrink) => most >= shrink) ?? 1;
}

const clip8 = (sum) => {
  const value = sum >> PRECISION;
  return value < 0 ? 0 : value > 255 ? 255 : value;
};

/** Shrinks or enlarges a photo that arrives in strips of rows: a whole one of 50 megapixels would be 200 MB. */
export class PhotoFitter {
  /** All in pixels: the photo's size, then the wanted one; `shrink` as `draftOf` gives it. */
  constructor(width, height, toWidth, toHeight, shrink = 1) {
    Object.assign(this, { width, height, toWidth, toHeight, shrink });
    this.across = spread8(width, toWidth, shrink);
    this.narrow = new Uint8Array(height * toWidth * 3);
  }

  /**
   * @param {Uint8ClampedArray | Uint8Array} rgba `rows x width x 4`
   * @param {number} top the strip's first row in the photo
   * @param {number} rows
   */
  add(rgba, top, rows) {
    const { width, toWidth, narrow } = this;
    const { size, first, count, weights } = this.across;
    const half = 1 << (PRECISION - 1);
    let out = top * toWidth * 3;
    for (let y = 0; y < rows; y++) {
      const row = y * width;
      for (let x = 0; x < toWidth; x++) {
        let red = half;
        let green = half;
        let blue = half;
        let pixel = (row + first[x]) * 4;
        const end = x * size + count[x];
        for (let w = x * size; w < end; w++, pixel += 4) {
          const weight = weights[w];
          red += rgba[pixel] * weight;
          green += rgba[pixel + 1] * weight;
          blue += rgba[pixel + 2] * weight;
        }
        narrow[out++] = clip8(red);
        narrow[out++] = clip8(green);
        narrow[out++] = clip8(blue);
      }
    }
  }

  /** @returns {Uint8Array} `toHeight x toWidth x 3`, RGB */
  finish() {
    const { height, toWidth, toHeight, narrow, shrink } = this;
    const { size, first, count, weights } = spread8(height, toHeight, shrink);
    const line = toWidth * 3;
    const found = new Uint8Array(toHeight * line);
    const sums = new Int32Array(line);
    for (let y = 0; y < toHeight; y++) {
      sums.fill(1 << (PRECISION - 1));
      for (let k = 0; k < count[y]; k++) {
        const weight = weights[y * size + k];
        const row = (first[y] + k) * line;
        for (let x = 0; x < line; x++) sums[x] += narrow[row + x] * weight;
      }
      for (let x = 0; x < line; x++) found[y * line + x] = clip8(sums[x]);
    }
    return found;
  }
}

/**
 * A probability at another size, row by row: at a photo's own size it would take four bytes a pixel.
 * @param {Float32Array} values `height x width`
 * @param {(row: Float32Array, y: number) => void} use gets each row of `toWidth` values, in [0, 1]; the array is used again
 */
export function eachRow(values, width, height, toWidth, toHeight, use) {
  const across = spread(width, toWidth);
  const wide = new Float32Array(height * toWidth);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < toWidth; x++) {
      let sum = 0;
      for (let k = 0; k < across.count[x]; k++) {
        sum += values[y * width + across.first[x] + k] * across.weights[x * across.size + k];
      }
      wide[y * toWidth + x] = sum;
    }
  }
  const down = spread(height, toHeight);
  const row = new Float32Array(toWidth);
  const sums = new Float64Array(toWidth);
  for (let y = 0; y < toHeight; y++) {
    sums.fill(0);
    for (let k = 0; k < down.count[y]; k++) {
      const weight = down.weights[y * down.size + k];
      const start = (down.first[y] + k) * toWidth;
      for (let x = 0; x < toWidth; x++) sums[x] += wide[start + x] * weight;
    }
    for (let x = 0; x < toWidth; x++) row[x] = sums[x] < 0 ? 0 : sums[x] > 1 ? 1 : sums[x];
    use(row, y);
  }
}
