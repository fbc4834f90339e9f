// Which masks a person should look at. The one place to change when the model itself says how sure it is.

const EDGE_SHARE = 0.2; // Of the outline that runs along the photo's edge.
const LARGEST_SHARE = 0.9; // Of the mask's area that is one region.
const MANY = 4;

/** @returns {string[]} reasons to look, for a person to read; none where nothing stands out */
export function reasonsToReview(measures) {
  if (!measures.components) return ["no lesion found"];
  const reasons = [];
  if (measures.edge_share > EDGE_SHARE) reasons.push("much of the outline runs along the photo’s edge");
  if (measures.components >= MANY || measures.largest_share < LARGEST_SHARE) {
    reasons.push(`the mask is in ${measures.components} pieces`);
  }
  return reasons;
}
