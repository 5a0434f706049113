import { describe, expect, test } from "vitest";
import { insideRing, nearestVertex, segmentDistance, simplifyRing, traceRings } from "../rings.js";
import { area, contains, rowEdges } from "../runs.js";

/** @import { Point, Ring } from "../types" */

/** A seeded generator of random numbers. @param {number} seed */
function random(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

/**
 * @param {number} width
 * @param {number} height
 * @param {(x: number, y: number) => boolean} inside
 */
function rowsOf(width, height, inside) {
  const runs = [];
  let value = false;
  let length = 0;
  for (let i = 0; i < width * height; i++) {
    const here = inside(i % width, Math.floor(i / width));
    if (here !== value) {
      runs.push(length);
      value = here;
      length = 0;
    }
    length += 1;
  }
  return rowEdges([...runs, length], width, height);
}

/** Whether a pixel is inside an odd number of rings. @param {Ring[]} rings @param {Point} centre */
const evenOdd = (rings, centre) =>
  rings.filter((ring) => insideRing(ring, centre)).length % 2 === 1;

describe("rings", () => {
  test("filled even-odd are the mask, also of noise with holes and corners that touch", () => {
    for (const seed of [1, 2, 3]) {
      const next = random(seed);
      const pixels = Array.from({ length: 13 * 9 }, () => next() < 0.5);
      const rows = rowsOf(13, 9, (x, y) => pixels[y * 13 + x]);
      const rings = traceRings(rows);
      for (let y = 0; y < 9; y++) {
        for (let x = 0; x < 13; x++) {
          const centre = /** @type {Point} */ ([x + 0.5, y + 0.5]);
          expect(evenOdd(rings, centre)).toBe(pixels[y * 13 + x]);
          expect(contains(rows, x, y)).toBe(pixels[y * 13 + x]);
        }
      }
      expect(area(rows)).toBe(pixels.filter(Boolean).length);
    }
  });

  test("of a rectangle have its four corners", () => {
    const rows = rowsOf(9, 7, (x, y) => x >= 2 && x < 7 && y >= 1 && y < 5);
    const [ring, ...others] = traceRings(rows);
    expect(others).toEqual([]);
    expect(ring.map(String).sort()).toEqual(["2,1", "2,5", "7,1", "7,5"]);
  });

  test("are simplified to far fewer vertices that stay near", () => {
    const rows = rowsOf(80, 80, (x, y) => Math.hypot(x - 40, y - 40) < 30);
    const [ring] = traceRings(rows);
    const simple = simplifyRing(ring, 1);
    expect(simple.length).toBeLessThan(ring.length / 4);
    for (const point of ring) {
      const off = Math.min(
        ...simple.map((vertex, i) =>
          segmentDistance(point, vertex, simple[(i + 1) % simple.length]),
        ),
      );
      expect(off).toBeLessThanOrEqual(1);
    }
    expect(
      simplifyRing(
        [
          [0, 0],
          [1, 0],
          [0, 1],
        ],
        9,
      ),
    ).toHaveLength(3);
  });
});

describe("the nearest vertex", () => {
  /** @type {Ring} */
  const square = [
    [0, 0],
    [100, 0],
    [100, 100],
    [0, 100],
  ];

  test("is taken within reach, else the edge, else none", () => {
    expect(nearestVertex([square], [98, 3], 8, 6)).toEqual({ ring: 0, vertex: 1, edge: false });
    expect(nearestVertex([square], [50, 4], 8, 6)).toEqual({ ring: 0, vertex: 0, edge: true });
    expect(nearestVertex([square], [2, 50], 8, 6)).toEqual({ ring: 0, vertex: 3, edge: true });
    expect(nearestVertex([square], [50, 50], 8, 6)).toBeNull();
    expect(nearestVertex([], [0, 0], 8, 6)).toBeNull();
  });
});
