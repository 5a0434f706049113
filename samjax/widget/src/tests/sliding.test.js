import { describe, expect, test } from "vitest";
import { Actions } from "../actions.js";
import { Kernel } from "../kernel.js";
import { PageState } from "../state.js";

/**
 * @import { Page } from "../page.js"
 * @import { Update } from "../types"
 */

/** A page whose model only writes down what it is sent. */
function page() {
  /** @type {unknown[][]} */
  const sent = [];
  const made = /** @type {Page} */ (/** @type {unknown} */ ({ state: new PageState() }));
  const model = {
    on() {},
    off() {},
    /** @param {{ kind: string, threshold?: number, object_id?: number }} message */
    send: ({ kind, threshold, object_id }) => sent.push([kind, threshold ?? object_id]),
  };
  Object.assign(made, { model, root: { dataset: {} }, decoder: { forget() {} } });
  made.state.told = /** @type {Update} */ ({ image: { phase: "ready" } });
  const actions = new Actions(made);
  const kernel = new Kernel(Object.assign(made, { actions }));
  clearInterval(kernel.timer);
  Object.assign(made, { kernel });
  /** @param {number} number @param {number} threshold */
  const answer = (number, threshold) => {
    const status = { text: "", level: "info" };
    const update = { request: `${kernel.name}-${number}`, threshold, status };
    actions.answered(/** @type {Update} */ (/** @type {unknown} */ (update)));
  };
  return { actions, kernel, sent, answer };
}

describe("the threshold's slider", () => {
  test("has one message in flight, and the last position wins", () => {
    const { actions, sent, answer } = page();
    for (const value of [0.25, 0.5, 0.75]) actions.slide(value);
    expect(sent).toEqual([["set_threshold", 0.25]]);
    answer(1, 0.25);
    expect(actions.sliding).toBe(true);
    expect(sent).toEqual([
      ["set_threshold", 0.25],
      ["set_threshold", 0.75],
    ]);
    answer(2, 0.75);
    expect(actions.sliding).toBe(false);
    expect(sent.length).toBe(2);
  });

  test("sends its last position before anything else: it is that of the object it moved", () => {
    const { actions, kernel, sent, answer } = page();
    actions.slide(0.25);
    actions.slide(0.5);
    kernel.send("select", { object_id: 2 });
    expect(sent).toEqual([
      ["set_threshold", 0.25],
      ["set_threshold", 0.5],
      ["select", 2],
    ]);
    answer(1, 0.25);
    expect(actions.sliding).toBe(true);
    answer(2, 0.5);
    answer(3, 0);
    expect(sent.length).toBe(3); // the other object keeps its own
  });
});
