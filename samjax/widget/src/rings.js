/* Outlines as rings of vertices, for editing: pure functions. */

/** @import { Point, Ring, RowEdges } from "./types" */
import { eachOutlinePiece } from "./runs.js";

/**
 * Trace the outline of a mask as rings along the pixels' edges; even-odd filling gives the mask.
 *
 * At each corner one horizontal and one vertical piece end, so that rings are followed from the
 * one kind to the other. Where two pixels touch by a corner only, a ring crosses itself or another.
 * @param {RowEdges[]} rows
 * @returns {Ring[]} in pixels' corners: (0, 0) is the top left of the first pixel
 */
export function traceRings(rows) {
  /** @type {[Map<string, Point>, Map<string, Point>]} */
  const ends = [new Map(), new Map()]; // across and down: from each end to the other
  eachOutlinePiece(rows, (x0, y0, x1, y1) => {
    const kind = y0 === y1 ? 0 : 1;
    ends[kind].set(`${x0},${y0}`, [x1, y1]);
    ends[kind].set(`${x1},${y1}`, [x0, y0]);
  });
  /** @type {Ring[]} */
  const rings = [];
  const [across, down] = ends;
  for (const start of across.keys()) {
    /** @type {Ring} */
    const ring = [];
    let key = start;
    while (across.has(key)) {
      const corner = /** @type {Point} */ (across.get(key));
      across.delete(key);
      across.delete(corner.join());
      const next = /** @type {Point} */ (down.get(corner.join()));
      ring.push(corner, next);
      key = next.join();
    }
    if (ring.length) rings.push(ring);
  }
  return rings;
}

/**
 * Leave out the vertices of a ring that lie near the line of the others (Douglas and Peucker).
 * @param {Ring} ring
 * @param {number} tolerance
 * @returns {Ring}
 */
export function simplifyRing(ring, tolerance) {
  if (ring.length < 5) return ring;
  let far = 0;
  for (let i = 1; i < ring.length; i++) {
    if (distance(ring[i], ring[0]) > distance(ring[far], ring[0])) far = i;
  }
  const first = simplifyLine(ring.slice(0, far + 1), tolerance);
  const second = simplifyLine([...ring.slice(far), ring[0]], tolerance);
  const kept = [...first.slice(0, -1), ...second.slice(0, -1)];
  return kept.length < 3 ? ring : kept;
}

/**
 * @param {Point[]} line
 * @param {number} tolerance
 * @returns {Point[]}
 */
function simplifyLine(line, tolerance) {
  const keep = new Uint8Array(line.length);
  keep[0] = keep[line.length - 1] = 1;
  const stack = [[0, line.length - 1]];
  for (let span = stack.pop(); span; span = stack.pop()) {
    const [from, to] = span;
    let worst = tolerance;
    let at = -1;
    for (let i = from + 1; i < to; i++) {
      const off = segmentDistance(line[i], line[from], line[to]);
      if (off > worst) {
        worst = off;
        at = i;
      }
    }
    if (at < 0) continue;
    keep[at] = 1;
    stack.push([from, at], [at, to]);
  }
  return line.filter((_, i) => keep[i]);
}

/** @param {Point} a @param {Point} b */
function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

/**
 * Return the distance of a point from a line segment.
 * @param {Point} point
 * @param {Point} a
 * @param {Point} b
 */
export function segmentDistance([x, y], a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy;
  const t = length ? ((x - a[0]) * dx + (y - a[1]) * dy) / length : 0;
  const within = Math.min(1, Math.max(0, t));
  return Math.hypot(x - a[0] - within * dx, y - a[1] - within * dy);
}

/**
 * Find the vertex, or else the edge, of rings that is nearest to a point.
 * @param {Ring[]} rings
 * @param {Point} point
 * @param {number} reach of vertices
 * @param {number} edgeReach of edges; the vertex is then the one after which to insert
 * @returns {{ring: number, vertex: number, edge: boolean} | null}
 */
export function nearestVertex(rings, point, reach, edgeReach) {
  let best = reach;
  let found = null;
  rings.forEach((ring, i) => {
    ring.forEach((vertex, j) => {
      const off = distance(vertex, point);
      if (off > best) return;
      best = off;
      found = { ring: i, vertex: j, edge: false };
    });
  });
  if (found) return found;
  best = edgeReach;
  rings.forEach((ring, i) => {
    ring.forEach((vertex, j) => {
      const off = segmentDistance(point, vertex, ring[(j + 1) % ring.length]);
      if (off > best) return;
      best = off;
      found = { ring: i, vertex: j, edge: true };
    });
  });
  return found;
}

/**
 * Whether a point lies inside a ring.
 * @param {Ring} ring
 * @param {Point} point
 */
export function insideRing(ring, [x, y]) {
  let inside = false;
  ring.forEach(([x0, y0], i) => {
    const [x1, y1] = ring[(i + 1) % ring.length];
    if (y0 > y !== y1 > y && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) inside = !inside;
  });
  return inside;
}
