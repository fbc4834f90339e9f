// What a file's first bytes say: the format, and the size before a pixel is decoded. A picture that says it has a billion
// pixels would take the page down.

const MAX_PIXELS = 64_000_000; // As in Python.
const MAX_BYTES = 512 * 1024 * 1024;

const OTHERS = [
  ...["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"].map((brand) => [4, `ftyp${brand}`, "HEIC"]),
  ...["avif", "avis"].map((brand) => [4, `ftyp${brand}`, "AVIF"]),
  [4, "ftyp", "a video"],
  [128, "DICM", "DICOM"],
  [0, "%PDF", "PDF"],
  [0, "II*\0", "TIFF"],
  [0, "MM\0*", "TIFF"],
  [0, "GIF8", "GIF"],
];

const text = (bytes, start, length) => String.fromCharCode(...bytes.subarray(start, start + length));

/** @returns {[number, number] | null} width and height, in pixels as stored; null where there is no frame */
function jpegSize(bytes, view) {
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
  return null;
}

function webpSize(bytes, view) {
  const kind = text(bytes, 12, 4);
  const three = (at) => view.getUint16(at, true) + (bytes[at + 2] << 16);
  if (kind === "VP8X") return [1 + three(24), 1 + three(27)];
  if (kind === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  const packed = view.getUint32(21, true);
  return [1 + (packed & 0x3fff), 1 + ((packed >> 14) & 0x3fff)];
}

/**
 * @param {Uint8Array} bytes the file's first bytes
 * @returns {{format: string, size: [number, number] | null}} format is "" where it is unknown
 */
export function sniff(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 32) return { format: "", size: null };
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return { format: "JPEG", size: jpegSize(bytes, view) };
  if (text(bytes, 1, 3) === "PNG") return { format: "PNG", size: [view.getUint32(16), view.getUint32(20)] };
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP") return { format: "WebP", size: webpSize(bytes, view) };
  if (text(bytes, 0, 2) === "BM") return { format: "BMP", size: [view.getInt32(18, true), Math.abs(view.getInt32(22, true))] };
  const other = OTHERS.find(([start, magic]) => text(bytes, start, magic.length) === magic);
  return { format: other ? other[2] : "", size: null };
}

const READ = ["JPEG", "PNG", "WebP", "BMP"];

/**
 * @param {Uint8Array} bytes the file's first bytes
 * @param {number} length of the whole file, in bytes
 * @returns {string} why the file is not opened; "" where it may be
 */
export function refusal(bytes, length) {
  if (length === 0) return "The file is empty.";
  if (length > MAX_BYTES) return `The file has ${Math.round(length / 1e6)} MB; 512 MB is the most that is opened.`;
  const { format, size } = sniff(bytes);
  // Safari opens HEIC and TIFF by itself; elsewhere decoding them fails, and says so.
  if (!READ.includes(format) && !["HEIC", "TIFF"].includes(format)) {
    return `This is not a photo${format ? ` but ${format}` : ""}. JPEG, PNG, WebP and BMP are opened.`;
  }
  if (isMoving(bytes, format)) return "The file holds more than one picture. Save the one that is meant as a file of its own.";
  return size ? sizeRefusal(...size) : "";
}

/** Whether a PNG or WebP is animated: which of its pictures is meant, nobody can say. */
function isMoving(bytes, format) {
  if (format === "WebP") return text(bytes, 12, 4) === "VP8X" && (bytes[20] & 2) !== 0;
  if (format !== "PNG") return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 8; at + 12 <= bytes.length && text(bytes, at + 4, 4) !== "IDAT"; at += 12 + view.getUint32(at)) {
    if (text(bytes, at + 4, 4) === "acTL") return view.getUint32(at + 8) > 1;
  }
  return false;
}

/** The same for a size in pixels. */
export function sizeRefusal(width, height) {
  if (width * height > MAX_PIXELS) return `The photo is ${width} × ${height}; 64 megapixels is the most that is opened. Shrink it.`;
  if (Math.min(width, height) < 2) return `The photo is only ${width} × ${height} pixels.`;
  if (Math.max(width, height) > 100 * Math.min(width, height)) return `This is ${width} × ${height} pixels, a strip and not a photo.`;
  return "";
}

/** What to say where the browser could not decode it. */
export function decodingRefusal(bytes) {
  const { format } = sniff(bytes);
  if (format === "HEIC" || format === "TIFF") return `This browser does not open ${format}. Save the photo as JPEG or PNG.`;
  return "The photo is damaged: it could not be decoded.";
}
