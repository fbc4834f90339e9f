// A made-up photo with an answer that the Python program computed: whether this browser computes the same is checked
// before any photo, since graphics drivers and WebAssembly engines have bugs that only show as wrong numbers.

const BLOCK = 16;

/** Two dark spots on bands of skin colour, in whole numbers only; `lesionseg/app/site.py` draws the same. */
export function checkPhoto(width, height) {
  const pixels = new Uint8Array(width * height * 3);
  let out = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const across = Math.floor((1000 * (2 * x + 1)) / width) - 900;
      const down = Math.floor((1000 * (2 * y + 1)) / height) - 1000;
      const far = across * across + 2 * down * down;
      const dark = far < 250000 ? 110 : far < 360000 ? 60 : 0;
      const band = ((x >> 3) + (y >> 3)) % 5;
      pixels[out++] = 215 - dark - band;
      pixels[out++] = 165 - dark - 2 * band;
      pixels[out++] = 145 - dark + band;
    }
  }
  return pixels;
}

/** Means over blocks of 16 x 16 pixels, row by row. */
export function blockMeans(values, width, height) {
  const means = [];
  for (let top = 0; top + BLOCK <= height; top += BLOCK) {
    for (let left = 0; left + BLOCK <= width; left += BLOCK) {
      let sum = 0;
      for (let y = top; y < top + BLOCK; y++) for (let x = left; x < left + BLOCK; x++) sum += values[y * width + x];
      means.push(sum / BLOCK ** 2);
    }
  }
  return means;
}

/** @returns {number} the mean difference of the blocks, in [0, 1] */
export function difference(values, width, height, expected) {
  const means = blockMeans(values, width, height);
  return means.reduce((sum, mean, i) => sum + Math.abs(mean - expected[i]), 0) / means.length;
}
