/* Masks as run lengths: pure functions from runs to rows, outlines and id maps. */

/** @import { Box, RowEdges } from "./types" */

/**
 * Read the run lengths of a mask (zeros first, along the rows) out of a message's buffer.
 * @param {ArrayBuffer | ArrayBufferView} buffer
 */
export function readRuns(buffer) {
  const view = ArrayBuffer.isView(buffer) ? buffer : new Uint8Array(buffer);
  const { byteOffset, byteLength } = view;
  return new Uint32Array(view.buffer.slice(byteOffset, byteOffset + byteLength));
}

/**
 * List for each row the sorted columns where the mask begins and ends: [begin, end, begin, ...].
 * @param {ArrayLike<number>} runs
 * @param {number} width
 * @param {number} height
 * @returns {RowEdges[]}
 */
export function rowEdges(runs, width, height) {
  /** @type {RowEdges[]} */
  const rows = Array.from({ length: height }, () => []);
  let position = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = position + runs[i];
    if (i % 2) {
      for (let at = position; at < end; ) {
        const row = Math.floor(at / width);
        const stop = Math.min(end, (row + 1) * width);
        rows[row].push(at - row * width, stop - row * width);
        at = stop;
      }
    }
    position = end;
  }
  return rows;
}

/**
 * Return the bounds of a mask, right and bottom exclusive; null if it is empty.
 * @param {RowEdges[]} rows
 * @returns {Box | null}
 */
export function bounds(rows) {
  /** @type {Box | null} */
  let box = null;
  for (let y = 0; y < rows.length; y++) {
    const edges = rows[y];
    if (!edges.length) continue;
    const last = edges[edges.length - 1];
    box = box
      ? [Math.min(box[0], edges[0]), box[1], Math.max(box[2], last), y + 1]
      : [edges[0], y, last, y + 1];
  }
  return box;
}

/**
 * List the columns that begin or end a run in just one of two rows: the edges between them.
 * @param {RowEdges} above
 * @param {RowEdges} below
 * @returns {number[]}
 */
export function exclusive(above, below) {
  const found = [];
  let i = 0;
  let j = 0;
  while (i < above.length || j < below.length) {
    const a = i < above.length ? above[i] : Number.POSITIVE_INFINITY;
    const b = j < below.length ? below[j] : Number.POSITIVE_INFINITY;
    if (a !== b) found.push(Math.min(a, b));
    if (a <= b) i++;
    if (b <= a) j++;
  }
  return found;
}

/**
 * Call `line(x0, y0, x1, y1)` for each piece of the outline, which runs along the pixels' edges;
 * straight pieces come joined.
 * @param {RowEdges[]} rows
 * @param {(x0: number, y0: number, x1: number, y1: number) => void} line
 */
export function eachOutlinePiece(rows, line) {
  const open = new Map(); // column -> row where its vertical edge began
  /** @type {RowEdges} */
  let above = [];
  for (let y = 0; y <= rows.length; y++) {
    const here = rows[y] ?? [];
    if (!here.length && !above.length) continue;
    const across = exclusive(above, here);
    for (let i = 0; i < across.length; i += 2) line(across[i], y, across[i + 1], y);
    const now = new Set(here);
    for (const [x, from] of open) {
      if (now.has(x)) continue;
      line(x, from, x, y);
      open.delete(x);
    }
    for (const x of here) if (!open.has(x)) open.set(x, y);
    above = here;
  }
}

/**
 * Give each pixel the number (1, 2, ...) of the smallest mask it lies in, or 0.
 * @param {ArrayLike<number>[]} allRuns
 * @param {number[]} areas
 * @param {number} width
 * @param {number} height
 */
export function idMap(allRuns, areas, width, height) {
  const map = new Uint16Array(width * height);
  const order = areas.map((_, i) => i).sort((a, b) => areas[b] - areas[a]);
  for (const i of order) {
    const runs = allRuns[i];
    let position = 0;
    for (let k = 0; k < runs.length; k++) {
      if (k % 2) map.fill(i + 1, position, position + runs[k]);
      position += runs[k];
    }
  }
  return map;
}

/**
 * Whether a mask holds the pixel at a column and a row.
 * @param {RowEdges[]} rows
 * @param {number} x
 * @param {number} y
 */
export function contains(rows, x, y) {
  const edges = rows[y];
  if (!edges) return false;
  let before = 0; // edges at or left of the pixel: an odd number of them is inside
  while (before < edges.length && edges[before] <= x) before++;
  return before % 2 === 1;
}

/**
 * Count the pixels of a mask.
 * @param {RowEdges[]} rows
 */
export function area(rows) {
  let sum = 0;
  for (const edges of rows) {
    for (let i = 0; i < edges.length; i += 2) sum += edges[i + 1] - edges[i];
  }
  return sum;
}
