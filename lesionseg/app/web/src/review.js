// Which masks a person should look at. The one place to change when the model itself says how sure it is.

const FRAME_SHARE = 0.2; // Of the photo's frame that lies on the mask.
const LARGEST_PIECE = 0.9; // Of the lesion's pixels.
const MANY = 4;

/** @returns {string[]} reasons to look, for a person to read; none where nothing stands out */
export function reasonsToReview(measures) {
  if (measures.lesion_pixels === 0) return ["no lesion found"];
  const reasons = [];
  if (measures.frame_share > FRAME_SHARE) reasons.push("the mask runs along much of the photo’s frame");
  if (measures.pieces >= MANY || measures.largest_piece < LARGEST_PIECE) reasons.push(`the mask is in ${measures.pieces} pieces`);
  return reasons;
}
