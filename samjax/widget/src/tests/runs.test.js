import { describe, expect, test } from "vitest";
import { bounds, eachOutlinePiece, exclusive, idMap, readRuns, rowEdges } from "../runs.js";

/**
 * @param {string[]} rows "#" is in the mask
 * @returns {{runs: number[], width: number, height: number}}
 */
function drawn(rows) {
  const flat = rows.join("");
  const runs = [];
  let value = ".";
  let length = 0;
  for (const pixel of flat) {
    if (pixel !== value) {
      runs.push(length);
      value = pixel;
      length = 0;
    }
    length += 1;
  }
  return { runs: [...runs, length], width: rows[0].length, height: rows.length };
}

/** @param {string[]} rows */
function edges(rows) {
  const { runs, width, height } = drawn(rows);
  return rowEdges(runs, width, height);
}

/** @param {string[]} rows */
function pieces(rows) {
  /** @type {string[]} */
  const found = [];
  eachOutlinePiece(edges(rows), (x0, y0, x1, y1) => found.push([x0, y0, x1, y1].join()));
  return found.sort();
}

/** A small generator of random numbers, seeded. @param {number} seed */
function random(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

describe("runs", () => {
  test("are read from a part of a buffer that need not be aligned", () => {
    const bytes = new Uint8Array(14);
    bytes.set(new Uint8Array(new Uint32Array([5, 7, 4]).buffer), 2);
    expect([...readRuns(new DataView(bytes.buffer, 2, 12))]).toEqual([5, 7, 4]);
    expect([...readRuns(new Uint32Array([1, 2]).buffer)]).toEqual([1, 2]);
  });

  test("become the edges of each row, also where a run goes on in the next row", () => {
    expect(edges(["..##", "##..", "####"])).toEqual([
      [2, 4],
      [0, 2],
      [0, 4],
    ]);
    expect(rowEdges([12], 4, 3)).toEqual([[], [], []]);
    expect(rowEdges([0, 12], 4, 3)).toEqual([
      [0, 4],
      [0, 4],
      [0, 4],
    ]);
  });

  test("and rows hold the same pixels", () => {
    const next = random(3);
    const rows = Array.from({ length: 9 }, () =>
      Array.from({ length: 7 }, () => (next() < 0.5 ? "#" : ".")).join(""),
    );
    const again = edges(rows).map((row) => {
      const line = ".".repeat(7).split("");
      for (let i = 0; i < row.length; i += 2) line.fill("#", row[i], row[i + 1]);
      return line.join("");
    });
    expect(again).toEqual(rows);
  });
});

describe("bounds", () => {
  test("are exclusive at the right and the bottom", () => {
    expect(bounds(edges(["....", ".#..", "...#", "...."]))).toEqual([1, 1, 4, 3]);
  });

  test("of an empty mask are null", () => {
    expect(bounds(edges(["...", "..."]))).toBeNull();
  });
});

describe("the outline", () => {
  test("between two rows has the columns where just one of them changes", () => {
    expect(exclusive([1, 4], [1, 4])).toEqual([]);
    expect(exclusive([1, 4], [2, 4])).toEqual([1, 2]);
    expect(exclusive([], [2, 4, 6, 7])).toEqual([2, 4, 6, 7]);
  });

  test("of a square is four pieces, however large it is", () => {
    expect(pieces(["....", ".##.", ".##.", "...."])).toEqual(
      ["1,1,3,1", "1,3,3,3", "1,1,1,3", "3,1,3,3"].sort(),
    );
  });

  test("of a ring goes around the hole, too", () => {
    expect(pieces(["###", "#.#", "###"])).toHaveLength(8);
  });

  test("closes: at each corner an even number of pieces ends", () => {
    const next = random(11);
    const rows = Array.from({ length: 12 }, () =>
      Array.from({ length: 10 }, () => (next() < 0.5 ? "#" : ".")).join(""),
    );
    const steps = new Map();
    eachOutlinePiece(edges(rows), (x0, y0, x1, y1) => {
      const horizontal = y0 === y1;
      const length = horizontal ? x1 - x0 : y1 - y0;
      for (let i = 0; i < length; i++) {
        const from = horizontal ? [x0 + i, y0] : [x0, y0 + i];
        const to = horizontal ? [x0 + i + 1, y0] : [x0, y0 + i + 1];
        for (const corner of [from, to]) {
          const key = corner.join();
          steps.set(key, (steps.get(key) ?? 0) + 1);
        }
      }
    });
    expect([...steps.values()].every((count) => count % 2 === 0)).toBe(true);
  });
});

describe("the id map", () => {
  test("gives a pixel to the smallest mask it lies in", () => {
    const large = drawn(["####", "####"]);
    const small = drawn(["....", ".##."]);
    expect([...idMap([small.runs, large.runs], [2, 8], 4, 2)]).toEqual([2, 2, 2, 2, 2, 1, 1, 2]);
  });

  test("is 0 where there is none", () => {
    expect([...idMap([[1, 1, 2]], [1], 2, 2)]).toEqual([0, 1, 0, 0]);
    expect([...idMap([], [], 2, 1)]).toEqual([0, 0]);
  });
});
