import { describe, expect, test } from "vitest";
import { fine, inside, spanned, View, whole } from "../view.js";

const SIZE = { width: 200, height: 100 };

describe("the view", () => {
  test("fits the whole image in, centred", () => {
    const view = new View();
    view.fit(200, 100, 424, 424);
    expect(view.scale).toBe(2);
    expect(view.toCss([-0.5, -0.5])).toEqual([12, 112]);
    expect(view.toCss([199.5, 99.5])).toEqual([412, 312]);
  });

  test("goes from pixels to the canvas and back", () => {
    const view = new View();
    view.fit(4000, 3000, 640, 560);
    view.zoom(3.7, [100, 50], 0.01);
    view.move(-12, 7);
    const [x, y] = view.toPixel(view.toCss([123, 45]));
    expect(x).toBeCloseTo(123, 9);
    expect(y).toBeCloseTo(45, 9);
  });

  test("zooms about the place of the pointer, between its limits", () => {
    const view = new View();
    view.fit(200, 100, 400, 400);
    const before = view.toPixel([90, 130]);
    view.zoom(2.5, [90, 130], 0.1);
    const after = view.toPixel([90, 130]);
    expect(after[0]).toBeCloseTo(before[0], 9);
    expect(after[1]).toBeCloseTo(before[1], 9);
    expect(view.fitted).toBe(false);
    view.zoom(1e6, [0, 0], 0.1);
    expect(view.scale).toBe(40);
    view.zoom(1e-9, [0, 0], 0.1);
    expect(view.scale).toBe(0.1);
  });

  test("keeps a part of the image on the stage", () => {
    const view = new View();
    view.fit(200, 100, 400, 300);
    view.move(9999, -9999);
    view.hold(200, 100, 400, 300);
    expect(view.x).toBe(360);
    expect(view.y + 100 * view.scale).toBeCloseTo(40, 9);
  });
});

describe("pixels", () => {
  test("are inside up to their outer edges", () => {
    expect(inside([-0.5, -0.5], SIZE)).toBe(true);
    expect(inside([199.5, 99.5], SIZE)).toBe(true);
    expect(inside([199.6, 50], SIZE)).toBe(false);
    expect(inside([50, -0.6], SIZE)).toBe(false);
  });

  test("are rounded to whole ones inside the image", () => {
    expect(whole([199.5, -0.5], SIZE)).toEqual([199, 0]);
    expect(whole([3.4, 7.6], SIZE)).toEqual([3, 8]);
  });

  test("of strokes keep hundredths", () => {
    expect(fine([1.23456, 7.999])).toEqual([1.23, 8]);
  });

  test("of two corners span a box in any order", () => {
    expect(spanned([5, 1], [2, 9])).toEqual([2, 1, 5, 9]);
  });
});
