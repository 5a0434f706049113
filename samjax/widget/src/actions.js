/* What the user does to the objects, as messages to the kernel. */

/**
 * @import { Page } from "./page.js"
 * @import { Box, Mark, Point, Update } from "./types"
 */
import { inside, whole } from "./view.js";

export class Actions {
  /** @type {string | null} the threshold's request that is in flight */
  #sliding = null;
  #threshold = 0; // where the slider is
  #sent = 0; // the last position that was sent

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
  }

  /** Whether the kernel has yet to answer the slider's last position. */
  get sliding() {
    return this.#sliding !== null;
  }

  forget() {
    this.#sliding = null;
  }

  /** @param {Update} message */
  answered(message) {
    if (message.request !== this.#sliding) return;
    this.#sliding = null;
    const moved = this.#threshold !== this.#sent;
    if (moved && message.status.level !== "error") this.slide(this.#threshold);
  }

  /** Send the slider's last position before anything else: it belongs to the object that it moved. */
  settle() {
    if (this.#sliding !== null && this.#threshold !== this.#sent) this.#sendThreshold();
  }

  #sendThreshold() {
    this.#sent = this.#threshold;
    this.#sliding = this.page.kernel.send("set_threshold", { threshold: this.#threshold });
  }

  /**
   * Click at a pixel: a point, or the automatic mask there.
   * @param {Point} pixel
   * @param {number} label
   */
  click(pixel, label) {
    const { state, automatic, kernel } = this.page;
    const { image } = state;
    if (!image || !state.usable || !inside(pixel, image)) return;
    if (automatic.choosing) {
      const number = automatic.at(pixel);
      if (number) kernel.send("pick", { index: number - 1 });
      return;
    }
    const [x, y] = whole(pixel, image);
    this.#mark({ kind: "point", point: [x, y], label });
    kernel.send("click", { x, y, label });
  }

  /**
   * Add the automatic masks inside of a lasso, or the one at a click.
   * @param {Point[]} points pixels
   * @param {Point} pixel where it began
   */
  lasso(points, pixel) {
    if (points.length < 4) {
      this.click(pixel, 1);
      return;
    }
    const indices = this.page.automatic.inside(points);
    if (indices.length) this.page.kernel.send("pick_many", { indices });
    else this.page.say("No automatic masks inside of the lasso");
  }

  /** @param {Box} box */
  box(box) {
    const [x0, y0, x1, y1] = box;
    this.#mark({ kind: "box", box });
    const { mode, separate } = this.page.state;
    this.page.kernel.send("box", { x0, y0, x1, y1, new: mode === "box" && separate });
  }

  /**
   * Paint onto the active object, or off it.
   * @param {Point[]} points
   * @param {number} radius pixels
   * @param {boolean} add
   */
  stroke(points, radius, add) {
    if (!add && !this.page.state.active) {
      this.page.say("Nothing to erase from: select an object first", "error");
      return;
    }
    this.#mark({ kind: "stroke", points, radius, add });
    this.page.kernel.send("brush", { points, radius, add });
  }

  /**
   * Show at once what was done; the answer replaces it.
   * @param {Mark} mark
   */
  #mark(mark) {
    this.page.hover.forget();
    this.page.state.marks.push(mark);
    this.page.decoder.foresee(mark);
    this.page.painter.paint();
  }

  /**
   * Move the threshold: one message is in flight, the last position wins.
   * @param {number} value
   */
  slide(value) {
    if (!this.page.state.told) return;
    this.#threshold = value;
    if (this.#sliding === null) this.#sendThreshold();
  }

  /**
   * Move the selection through the list; past its end a new object.
   * @param {1 | -1} step
   */
  walk(step) {
    const { told } = this.page.state;
    const ids = told?.objects.map((each) => each.id) ?? [];
    if (!told || !ids.length) return;
    const at = told.active === null ? -1 : ids.indexOf(told.active);
    const first = step > 0 ? 0 : ids.length - 1;
    const next = at < 0 ? first : at + step;
    if (next >= 0 && next < ids.length) this.select(ids[next]);
    else this.page.kernel.send("new_object");
  }

  /** @param {number} id */
  select(id) {
    this.page.state.selected.clear();
    this.page.kernel.send("select", { object_id: id });
  }

  /**
   * Select an object beside the active one, or no longer.
   * @param {number} id
   */
  toggle(id) {
    const { told, selected } = this.page.state;
    if (told?.active === null && !selected.size) this.select(id);
    else if (!selected.delete(id) && id !== told?.active) selected.add(id);
    this.page.refresh();
    this.page.painter.paint();
  }

  /**
   * Select the object at a pixel, or none where there is none.
   * @param {Point} pixel
   * @param {boolean} add beside the active one
   */
  selectAt(pixel, add) {
    const { state, kernel } = this.page;
    const each = state.objectAt(pixel);
    if (each && add) this.toggle(each.id);
    else if (each && each.id !== state.told?.active) this.select(each.id);
    else if (!each && !add && state.active) kernel.send("new_object");
    if (!each && !add) state.selected.clear();
    return each !== null;
  }

  /**
   * Do something that takes several objects: the active one and those selected beside it.
   * @param {"merge" | "subtract"} kind
   */
  combine(kind) {
    const { state, kernel } = this.page;
    if (state.chosen.length < 2) {
      this.page.say("Select two objects or more: click on the others with Shift", "error");
      return;
    }
    kernel.send(kind, { object_ids: state.chosen });
    state.selected.clear();
  }

  /**
   * Hide or show objects, or classes.
   * @template {number | string} Key
   * @param {Set<Key>} hidden
   * @param {Key} key
   */
  toggleShown(hidden, key) {
    if (!hidden.delete(key)) hidden.add(key);
    this.page.refresh();
    this.page.painter.paint();
  }

  /** Show all objects, or hide all if all are shown. */
  toggleAll() {
    const { hidden, hiddenClasses, told } = this.page.state;
    if (hidden.size || hiddenClasses.size) {
      hidden.clear();
      hiddenClasses.clear();
    } else for (const { id } of told?.objects ?? []) hidden.add(id);
  }

  /** Take the next of the candidate masks. */
  nextCandidate() {
    const told = this.page.state.told?.candidates;
    if (told) this.page.kernel.send("choose", { index: (told.rank + 1) % told.scores.length });
  }

  /**
   * Give the active object, and new ones, the class at that place of the list.
   * @param {number} place counted from 0
   */
  classAt(place) {
    const name = this.page.state.told?.classes[place];
    if (name) this.page.kernel.send("label", { name });
  }
}
