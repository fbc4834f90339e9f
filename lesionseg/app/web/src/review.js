// Which masks a person should look at, judged on the probability as the model gives it: `look` of lesionseg/inference/quality.py
// in the browser, with the same words.

const OTHER_PIECES = 0.05; // Of the mask, outside its largest piece.
const CONTACT = 0.3; // Of the photo's frame that is lesion.

/** The Dice to be expected of a truth that is drawn from the probability, before calibration. */
function certainty(values, limit) {
  let [found, inside, all] = [0, 0, 0];
  for (const value of values) {
    all += value;
    if (value < limit) continue;
    found++;
    inside += value;
  }
  return found ? Math.min(1, (2 * inside) / (all + found)) : 0;
}

/** A rising line through (xs[i], ys[i]). */
function along(xs, ys, x) {
  const next = xs.findIndex((place) => place > x);
  if (next === 0) return ys[0];
  if (next < 0) return ys.at(-1);
  const part = (x - xs[next - 1]) / (xs[next] - xs[next - 1]);
  return ys[next - 1] + part * (ys[next] - ys[next - 1]);
}

function frameContact(mask, width, height) {
  let lesion = 0;
  for (let x = 0; x < width; x++) lesion += mask[x] + mask[(height - 1) * width + x];
  for (let y = 1; y < height - 1; y++) lesion += mask[y * width] + mask[y * width + width - 1];
  return lesion / (2 * (width + height) - 4);
}

/** Pixels of each piece; pixels that touch at a corner are of one. The mask is used up. */
function pieceSizes(mask, width, height) {
  const sizes = [];
  const open = [];
  const visit = (x, y) => {
    if (x < 0 || y < 0 || x >= width || y >= height || !mask[y * width + x]) return;
    mask[y * width + x] = 0;
    open.push(x, y);
  };
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start]) continue;
    visit(start % width, Math.floor(start / width));
    let size = 0;
    while (open.length) {
      const y = open.pop();
      const x = open.pop();
      size++;
      for (let v = y - 1; v <= y + 1; v++) for (let u = x - 1; u <= x + 1; u++) visit(u, v);
    }
    sizes.push(size);
  }
  return sizes;
}

/**
 * @param {{values: Float32Array, width: number, height: number}} map
 * @param {number} threshold lesion where the probability is at least this
 * @param {{certainties: number[], dice: number[], review_below: number} | null} [quality] the model's calibration
 * @returns {{expected_dice: number | null, reasons: string[]}} without calibration, only the mask's shape is judged
 */
export function look({ values, width, height }, threshold, quality = null) {
  const limit = Math.fround(threshold);
  const mask = Uint8Array.from(values, (value) => value >= limit);
  const judge = (value) => (quality ? along(quality.certainties, quality.dice, value) : null);
  if (!mask.includes(1)) return { expected_dice: judge(0), reasons: ["no lesion found"] };
  const reasons = [];
  const expected = judge(certainty(values, limit));
  if (expected !== null && expected < quality.review_below) reasons.push("the outline is uncertain");
  const contact = frameContact(mask, width, height);
  const sizes = pieceSizes(mask, width, height);
  const others = 1 - Math.max(...sizes) / sizes.reduce((sum, size) => sum + size, 0);
  if (others > OTHER_PIECES) reasons.push(`${sizes.length} pieces`);
  if (contact > CONTACT) reasons.push(`cut by the frame along ${Math.round(100 * contact)}% of it`);
  return { expected_dice: expected, reasons };
}
