import { describe, expect, test } from "vitest";
import { axis, chosen, fromHalf, maskRuns, tokens } from "../logits.js";
import kernel from "./kernel.json"; // made by samjax itself, see tests/widget/test_page_decoder.py

describe("the page's masks are the kernel's", () => {
  test.each(kernel.upscaled)("at $size", ({ low, side, input, size, threshold, logits, runs }) => {
    const columns = axis(low, side, input[1], size[1]);
    const rows = axis(low, side, input[0], size[0]);
    const found = maskRuns(Float32Array.from(logits), low, columns, rows, threshold);
    expect([...found]).toEqual(runs);
  });

  test("float16 is read as it was written", () => {
    expect([...fromHalf(Uint16Array.from(kernel.halves.words))]).toEqual(kernel.halves.values);
  });
});

describe("prompts", () => {
  test("without a box a padding point follows", () => {
    const { coords, labels } = tokens({ points: [[4, 6, 1]], box: null }, [0.5, 2]);
    expect([...coords]).toEqual([2, 12, 0, 0]);
    expect([...labels]).toEqual([1, -1]);
  });

  test("a box's corners follow the points", () => {
    const { coords, labels } = tokens({ points: [[1, 2, 0]], box: [3, 4, 5, 6] }, [1, 1]);
    expect([...coords]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...labels]).toEqual([0, 2, 3]);
  });

  test("the best of three is shown, or the single mask", () => {
    const scores = [0.9, 0.2, 0.7, 0.5];
    expect([chosen(scores, true), chosen(scores, false), chosen([0.3], true)]).toEqual([2, 0, 0]);
  });
});
