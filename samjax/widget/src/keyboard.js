/* Keys: the table of commands, and a cursor that stands in for the pointer. */

/**
 * @import { Page } from "./page.js"
 * @import { Point } from "./types"
 */
import { commandOf } from "./commands.js";
import { keyName } from "./keys.js";
import { spanned, whole } from "./view.js";

/** @type {Record<string, Point>} */
const STEPS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

const SLIDER_KEYS = /(Arrow\w+|Home|End|Page\w+)$/;

/** @param {Element} target */
const isSlider = (target) => target.matches("input[type=range]");

/** @param {Element} target */
export const isTextField = (target) =>
  target.matches("textarea, select, [contenteditable], input:not([type=range], [type=checkbox])");

export class Keyboard {
  /** Whether Space is held down. */
  held = false;
  #dragged = false;

  #byTab = false; // the focus came by Tab
  #stop = new AbortController();

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    // JupyterLab listens at the document and prevents what it takes for its own: the annotator
    // hears its keys before.
    const options = { capture: true, signal: this.#stop.signal };
    window.addEventListener("keydown", (event) => this.#onDown(event), options);
    window.addEventListener("keyup", (event) => this.#onUp(event), options);
    window.addEventListener("pointerdown", () => this.#onPointer(), options);
    window.addEventListener("blur", () => this.release(), options);
  }

  close() {
    this.#stop.abort();
  }

  #onPointer() {
    this.#byTab = false;
  }

  /** Space is no longer held. */
  release() {
    this.held = this.#dragged = false;
  }

  /** Space is held down: a drag moves the image, and a click follows when it is let go. */
  hold() {
    this.held = true;
  }

  /** Space was held for a drag of the image: no click follows. */
  usedForDrag() {
    this.#dragged = true;
  }

  /** @param {KeyboardEvent} event */
  #onDown(event) {
    const path = event.composedPath();
    if (event.key === "Tab") this.#byTab = true;
    if (!path.includes(this.page.root) || event.metaKey || event.altKey) return;
    const target = /** @type {Element} */ (path[0]);
    const key = keyName(event);
    if (target.closest("[role=dialog]") && key !== "Escape") return;
    if (isTextField(target) && !(key === "Escape" && target.closest("[role=dialog]"))) return;
    if (isSlider(target) && SLIDER_KEYS.test(key)) {
      event.stopPropagation();
      return;
    }
    // Whoever goes through the buttons by Tab presses them by Enter or Space.
    if (this.#byTab && target.closest("button") && /(Enter|Space)$/.test(key)) {
      event.stopPropagation();
      return;
    }
    const command = commandOf(key);
    if (!command) return;
    event.preventDefault();
    event.stopPropagation();
    this.page.run(command, key);
    if (!isSlider(target)) this.page.focusUnlessField();
  }

  /**
   * Move the cursor.
   * @param {string} key an arrow, with Shift by one pixel
   */
  moveCursor(key) {
    const { state, view, canvas, hover } = this.page;
    const { image } = state;
    if (!image) return;
    const [dx, dy] = STEPS[key.replace("Shift+", "")];
    const step = key.startsWith("Shift+") ? 1 : Math.max(1, Math.round(10 / view.scale));
    const [x, y] = state.cursor ?? [image.width / 2, image.height / 2];
    state.cursor = whole([x + dx * step, y + dy * step], image);
    if (state.corner) state.drag = { kind: "cursor", box: spanned(state.corner, state.cursor) };
    canvas.setAttribute("aria-label", `Cursor at ${state.cursor.join(", ")}`);
    hover.at(state.cursor);
  }

  /** @param {KeyboardEvent} event */
  #onUp(event) {
    if (event.key !== " " || !this.held) return;
    const pressed = !this.#dragged;
    this.release();
    event.preventDefault();
    event.stopPropagation();
    const { state } = this.page;
    if (!pressed || !state.cursor || !state.usable) return;
    this.#press(state.cursor, event.shiftKey ? 0 : state.sign);
  }

  /**
   * Do at the cursor as the pointer would there.
   * @param {Point} cursor
   * @param {number} label
   */
  #press(cursor, label) {
    const { state, view, automatic, actions } = this.page;
    if (automatic.choosing || state.mode === "point") actions.click(cursor, label);
    else if (state.mode === "select" || state.mode === "edit") actions.selectAt(cursor, !label);
    else if (state.mode === "box" && !state.corner) state.corner = cursor;
    else if (state.mode === "box" && state.corner) {
      const box = spanned(state.corner, cursor);
      state.corner = state.drag = null;
      actions.box(box);
    } else {
      const add = (state.mode === "brush") === Boolean(label);
      actions.stroke([cursor], state.radius / view.scale, add);
    }
  }
}
