/* Mouse, pen and fingers on the canvas: clicks, boxes, strokes, panning and zooming. */

/**
 * @import { Page } from "./page.js"
 * @import { Drag, Point } from "./types"
 */
import { fine, spanned, whole } from "./view.js";

const CLICK_SLOP = 6; // CSS pixels that a click may move before it is a box
const LONG_PRESS = 550; // ms

export class Pointer {
  /** @type {Map<number, Point>} where each pointer that is down is, CSS pixels of the canvas */
  #down = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} of a long press */
  #press;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    const { canvas } = page;
    canvas.addEventListener("pointerdown", (event) => this.#onDown(event));
    canvas.addEventListener("pointermove", (event) => this.#onMove(event));
    canvas.addEventListener("pointerup", (event) => this.#onUp(event, false));
    canvas.addEventListener("pointercancel", (event) => this.#onUp(event, true));
    canvas.addEventListener("pointerleave", () => {
      page.state.mouse = null;
      page.hover.at(null);
      page.painter.paint();
    });
    canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
  }

  close() {
    clearTimeout(this.#press);
  }

  /**
   * @param {MouseEvent} event
   * @returns {Point} CSS pixels of the canvas
   */
  #position(event) {
    const box = this.page.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {WheelEvent} event */
  #onWheel(event) {
    event.preventDefault();
    const step = event.deltaMode === 1 ? 20 * event.deltaY : event.deltaY;
    this.page.zoom(Math.exp(-step * (event.ctrlKey ? 0.01 : 0.0015)), this.#position(event));
  }

  /** @param {PointerEvent} event */
  #onDown(event) {
    const { state, canvas, keyboard, painter } = this.page;
    canvas.focus({ preventScroll: true });
    state.cursor = null;
    const at = this.#position(event);
    this.#down.set(event.pointerId, at);
    canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
    if (this.#down.size === 2) {
      state.drag = { kind: "pinch" };
      clearTimeout(this.#press);
    } else if (this.#down.size === 1 && state.image) {
      if (event.button === 1 || keyboard.held) {
        state.drag = { kind: "pan" };
        keyboard.usedForDrag();
      } else {
        state.drag = this.#begin(at, event);
        painter.paint();
      }
    }
  }

  /**
   * @param {Point} at
   * @param {PointerEvent} event
   * @returns {Drag | null}
   */
  #begin(at, event) {
    const { state, view, automatic, actions, editor } = this.page;
    const pixel = view.toPixel(at);
    const negative = event.button === 2 || event.shiftKey || event.ctrlKey;
    if (automatic.choosing) return { kind: "lasso", points: [pixel], pixel };
    if (state.mode === "select" || event.altKey) {
      return { kind: "select", pixel, add: event.shiftKey || event.ctrlKey };
    }
    if (state.mode === "edit") {
      const removes = event.button === 2;
      const taken = editor.take(at, removes);
      return taken || removes ? taken : { kind: "select", pixel, add: false };
    }
    if (state.mode === "brush" || state.mode === "erase") {
      const add = (state.mode === "brush") !== negative;
      return { kind: "stroke", points: [fine(pixel)], radius: state.radius / view.scale, add };
    }
    if (event.pointerType === "touch") {
      this.#press = setTimeout(() => {
        if (state.drag?.kind !== "click" || state.drag.box) return;
        state.drag = null;
        navigator.vibrate?.(15);
        actions.click(pixel, 0);
      }, LONG_PRESS);
    }
    return { kind: "click", start: at, pixel, label: negative ? 0 : state.sign, box: null };
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const { state, view, hover, painter } = this.page;
    const at = this.#position(event);
    const before = this.#down.get(event.pointerId);
    state.mouse = event.pointerType === "touch" ? null : at;
    if (!before) {
      state.cursor = null;
      hover.at(state.image ? view.toPixel(at) : null);
      if (state.mode === "brush" || state.mode === "erase") painter.paint();
      return;
    }
    if (state.drag?.kind === "pinch") this.#pinch(event.pointerId, before, at);
    this.#down.set(event.pointerId, at);
    if (!state.drag || !state.image) return;
    this.#drag(state.drag, before, at);
    painter.paint();
  }

  /**
   * @param {Drag} drag
   * @param {Point} before CSS pixels
   * @param {Point} at
   */
  #drag(drag, before, at) {
    const { state, view } = this.page;
    if (!state.image) return;
    if (drag.kind === "pan") {
      view.move(at[0] - before[0], at[1] - before[1]);
    } else if (drag.kind === "stroke") {
      const last = view.toCss(drag.points[drag.points.length - 1]);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) < 2) return;
      drag.points.push(fine(view.toPixel(at)));
    } else if (drag.kind === "lasso") {
      const last = view.toCss(drag.points[drag.points.length - 1]);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) > 3) drag.points.push(view.toPixel(at));
    } else if (drag.kind === "vertex") {
      this.page.editor.move(drag.ring, drag.vertex, view.toPixel(at));
    } else if (drag.kind === "click") {
      const far = Math.hypot(at[0] - drag.start[0], at[1] - drag.start[1]) > CLICK_SLOP;
      if (far) clearTimeout(this.#press);
      if (far || drag.box) {
        drag.box = spanned(whole(drag.pixel, state.image), whole(view.toPixel(at), state.image));
      }
    }
  }

  /**
   * @param {PointerEvent} event
   * @param {boolean} cancelled
   */
  #onUp(event, cancelled) {
    const { state, kernel, actions, painter } = this.page;
    if (!this.#down.delete(event.pointerId)) return;
    clearTimeout(this.#press);
    const { drag } = state;
    if (drag?.kind === "pinch") {
      if (!this.#down.size) state.drag = null;
      return;
    }
    state.drag = null;
    if (state.gone) kernel.send("hello");
    if (drag && state.usable && !cancelled) {
      if (drag.kind === "stroke") actions.stroke(drag.points, drag.radius, drag.add);
      else if (drag.kind === "click" && drag.box) actions.box(drag.box);
      else if (drag.kind === "lasso") actions.lasso(drag.points, drag.pixel);
      else if (drag.kind === "vertex") this.page.editor.finish();
      else if (drag.kind === "select") actions.selectAt(drag.pixel, drag.add);
      else if (drag.kind === "click" && state.mode === "box") {
        if (!actions.selectAt(drag.pixel, false)) {
          this.page.say("Drag from one corner of the box to the other");
        }
      } else if (drag.kind === "click") actions.click(drag.pixel, drag.label);
    }
    painter.paint();
  }

  /**
   * @param {number} id of the finger that moves
   * @param {Point} before CSS pixels
   * @param {Point} at
   */
  #pinch(id, before, at) {
    const [other] = [...this.#down].filter(([key]) => key !== id).map(([, value]) => value);
    /** @param {Point} p */
    const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    /** @param {Point} p @returns {Point} */
    const middle = (p) => [(p[0] + other[0]) / 2, (p[1] + other[1]) / 2];
    const [from, to] = [middle(before), middle(at)];
    this.page.view.move(to[0] - from[0], to[1] - from[1]);
    this.page.zoom(distance(at) / distance(before), to);
  }
}
