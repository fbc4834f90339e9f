// Downloads: the mask, the drawn photo, the table.

import { csv } from "./csv.js";

const LENGTHS = ["area", "perimeter", "major_axis", "minor_axis", "equivalent_diameter", "longest_diameter"];
const COLUMNS = [
  ...["file", "width", "height", "lesion_pixels", "lesion_fraction", "mean_probability", "components", "largest_share"],
  ...LENGTHS.map((name) => `${name}_px`),
  ...["compactness", "solidity", "edge_share", "expected_dice", "review", "reasons"],
  ...["model_sha256", "photo_sha256", "threshold", "status", "error"],
];

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads it later than this.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file's name without its last ending. */
export const stem = (name) => name.replace(/\.[^.]*$/, "") || name;

/** The cells that predictions.csv has of it; empty for a photo that could not be used. */
function opinion(measures) {
  if (!measures) return {};
  const { expected_dice, reasons } = measures;
  const expected = expected_dice === null ? "" : Number(expected_dice.toFixed(4));
  return { expected_dice: expected, review: reasons.length ? "yes" : "no", reasons: reasons.join("; ") };
}

/** @returns {Blob} a row per photo, as in predictions.csv; `photos` have name, state, measures, error, sha256, model_sha256 */
export function table(photos, info, threshold) {
  const rows = photos.map((photo) => ({
    file: photo.name,
    ...photo.measures,
    ...Object.fromEntries(LENGTHS.map((name) => [`${name}_px`, photo.measures?.[name]])),
    // As in predictions.csv: where there is no lesion, there is nothing to count.
    components: photo.measures?.components || "",
    ...opinion(photo.measures),
    model_sha256: photo.model_sha256 ?? info.sha256,
    photo_sha256: photo.sha256,
    threshold,
    status: photo.state === "done" ? "ok" : "failed",
    error: photo.error,
  }));
  return new Blob([csv(COLUMNS, rows)], { type: "text/csv" });
}
