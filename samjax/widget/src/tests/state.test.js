import { describe, expect, test } from "vitest";
import { progressText } from "../images.js";
import { freshObjects } from "../kernel.js";
import { Mask } from "../mask.js";
import { PageState } from "../state.js";

/** @import { ObjectEntry, Picture, Update } from "../types" */

/** @param {number} id @param {string} label */
const entry = (id, label) =>
  /** @type {ObjectEntry} */ ({ id, label, colour: [id, id, id], committed: true });

/** A page with a large object and a small one inside of it. */
function page() {
  const state = new PageState();
  const objects = [entry(1, "cat"), entry(2, "dog")];
  state.told = /** @type {Update} */ ({
    image: { index: 0, phase: "ready" },
    objects,
    active: null,
    classes: ["cat", "dog"],
    class_colours: [
      [10, 0, 0],
      [20, 0, 0],
    ],
  });
  state.picture = /** @type {Picture} */ ({ index: 0, width: 8, height: 8, display: [4, 4] });
  const small = new Mask([5, 1, 10], 4, 4);
  const large = new Mask([0, 12, 4], 4, 4);
  state.masks.set(1, { version: 1, runs: new Uint32Array(), mask: large });
  state.masks.set(2, { version: 2, runs: new Uint32Array(), mask: small });
  return state;
}

describe("the object at a pixel", () => {
  test("is the smallest one there", () => {
    const state = page();
    expect(state.objectAt([2, 2])?.id).toBe(2);
    expect(state.objectAt([6, 4])?.id).toBe(1);
    expect(state.objectAt([6, 7])).toBeNull();
  });

  test("is none that is hidden, by itself or by its class", () => {
    const state = page();
    state.hidden.add(2);
    expect(state.objectAt([2, 2])?.id).toBe(1);
    state.hiddenClasses.add("cat");
    expect(state.objectAt([2, 2])).toBeNull();
  });
});

describe("colours", () => {
  test("are those of the objects, or of their classes", () => {
    const state = page();
    expect(state.colourOf(entry(2, "dog"))).toEqual([2, 2, 2]);
    state.colourBy = "class";
    expect(state.colourOf(entry(2, "dog"))).toEqual([20, 0, 0]);
    expect(state.colourOf(entry(2, "unknown"))).toEqual([2, 2, 2]);
  });
});

describe("the selection", () => {
  test("begins with the active object", () => {
    const state = page();
    state.selected.add(1);
    if (state.told) state.told.active = 2;
    expect(state.chosen).toEqual([2, 1]);
  });
});

describe("the name of the state", () => {
  test("follows the kernel and the image", () => {
    const state = page();
    expect(state.name(false)).toBe("ready");
    expect(state.name(true)).toBe("busy");
    if (state.told) state.told.image.phase = "encoding";
    expect(state.name(false)).toBe("encoding");
    state.picture = null;
    expect(state.name(false)).toBe("loading");
    state.gone = true;
    expect(state.name(false)).toBe("disconnected");
  });
});

describe("the progress of an image", () => {
  test("is said in words", () => {
    expect(progressText([0, 0])).toBe("no objects");
    expect(progressText([1, 1])).toBe("1 object, done");
    expect(progressText([3, 1])).toBe("3 objects, 1 done");
  });
});

describe("the objects of an update", () => {
  test("are those that it holds, in its order, and those that the page held", () => {
    const held = [entry(1, "cat"), entry(2, "dog"), entry(3, "cat")];
    const fresh = entry(2, "fox");
    const objects = freshObjects([3, fresh, entry(4, "cat")], held);
    expect(objects.map((each) => [each.id, each.label])).toEqual([
      [3, "cat"],
      [2, "fox"],
      [4, "cat"],
    ]);
    expect(objects[0]).toBe(held[2]);
    expect(freshObjects([9], held)).toEqual([]); // until the answer to the page's hello comes
  });
});
