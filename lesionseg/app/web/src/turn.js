// Browsers turn JPEG and PNG upright by EXIF, but not WebP.

const ORIENTATION = 0x0112;

/** For each orientation, the six numbers of the turn of a picture of width w and height h. */
const TURNS = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

/** @returns {number} 1 to 8; 1 where nothing is said, or nothing that makes sense */
export function orientationOf(exif) {
  const start = exif.length > 6 && String.fromCharCode(...exif.subarray(0, 4)) === "Exif" ? 6 : 0;
  const view = new DataView(exif.buffer, exif.byteOffset + start, exif.length - start);
  try {
    const little = view.getUint16(0) === 0x4949;
    const first = view.getUint32(4, little);
    const count = view.getUint16(first, little);
    for (let at = first + 2; at < first + 2 + 12 * count; at += 12) {
      if (view.getUint16(at, little) !== ORIENTATION) continue;
      const value = view.getUint16(at + 8, little);
      return value in TURNS ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // Cut off.
  }
  return 1;
}

/** @returns {Promise<{at: number, orientation: number} | null>} of a WebP: where its EXIF is; null where it is upright */
export async function turnOf(blob) {
  for (let at = 12; at + 8 <= blob.size; ) {
    const view = new DataView(await blob.slice(at, at + 8).arrayBuffer());
    const length = view.getUint32(4, true);
    if (view.getUint32(0) === 0x45584946 /* EXIF */) {
      const orientation = orientationOf(new Uint8Array(await blob.slice(at + 8, at + 8 + length).arrayBuffer()));
      return orientation === 1 ? null : { at, orientation };
    }
    at += 8 + length + (length & 1);
  }
  return null;
}

/** The same file with its EXIF under a name that nobody knows: a browser that did turn it would turn it twice. */
export const withoutExif = (blob, { at }) => new Blob([blob.slice(0, at), "EXIX", blob.slice(at + 4)]);

/** @param {ImageBitmap} bitmap is closed */
export function turned(bitmap, { orientation }) {
  const { width, height } = bitmap;
  const canvas = orientation > 4 ? new OffscreenCanvas(height, width) : new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.setTransform(...TURNS[orientation](width, height));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.transferToImageBitmap();
}
