// The table of measurements, with the columns of predictions.csv as far as the page knows them.

/** A cell that no spreadsheet takes for a formula. */
function cell(value) {
  let text = String(value ?? "").replaceAll("\r", "\\r");
  if (/^[=+\-@\t]/.test(text) && (text.trim() === "" || !Number.isFinite(Number(text)))) text = `'${text}`;
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {string[]} columns
 * @param {Record<string, unknown>[]} rows what a row lacks is an empty cell
 */
export function csv(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  return lines.map((cells) => `${cells.map(cell).join(",")}\n`).join("");
}
