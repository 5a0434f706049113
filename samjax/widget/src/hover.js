/* The preview under the mouse: the mask that a click there would give. */

/**
 * @import { Page } from "./page.js"
 * @import { HoverMessage, Point } from "./types"
 */
import { Mask } from "./mask.js";
import { readRuns } from "./runs.js";
import { inside, whole } from "./view.js";

export class Hover {
  #sent = 0;
  #shown = 0;
  #wanted = false;
  /** @type {Point | null} the place to ask for next */
  #next = null;
  /** @type {string | null} the request that is in flight */
  #request = null;
  #time = 0;
  #key = "";

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
  }

  /** When the request in flight was sent; infinity if there is none. */
  get waitsSince() {
    return this.#request ? this.#time : Number.POSITIVE_INFINITY;
  }

  forget() {
    this.#request = null;
  }

  /**
   * Ask for the preview at a pixel, or take it away.
   * @param {Point | null} pixel
   */
  at(pixel) {
    const { state, automatic, painter } = this.page;
    if (automatic.choosing) {
      automatic.point(pixel);
      return;
    }
    const { image, told } = state;
    const asks =
      image &&
      pixel &&
      state.mode === "point" &&
      state.sign === 1 &&
      state.usable &&
      told?.image.phase === "ready" &&
      told.active === null &&
      !state.marks.length &&
      inside(pixel, image);
    this.#wanted = Boolean(asks);
    this.#next = asks ? whole(pixel, image) : null;
    if (asks) this.#send();
    else if (state.preview) {
      state.preview = null;
      painter.paint();
    }
  }

  /** One request is in flight; of those that come meanwhile only the last is sent. */
  #send() {
    const { state, kernel, root } = this.page;
    if (this.#request || !this.#next) return;
    const [x, y] = this.#next;
    this.#next = null;
    const key = `${x},${y},${state.told?.image.index}`;
    if (key === this.#key && state.preview) return;
    this.#key = key;
    this.#sent += 1;
    root.dataset.hoverSent = String(this.#sent);
    this.#request = `${kernel.name}-hover-${this.#sent}`;
    this.#time = performance.now();
    kernel.post({ kind: "hover", request: this.#request, x, y });
  }

  /**
   * @param {HoverMessage} message
   * @param {DataView[]} buffers
   */
  receive(message, buffers) {
    if (message.request !== this.#request) return;
    const { state, painter, root } = this.page;
    this.#request = null;
    this.#shown += 1;
    const { image } = state;
    const shown = this.#wanted && image && message.index === image.index && buffers.length;
    state.preview = shown ? new Mask(readRuns(buffers[0]), ...image.display) : null;
    painter.paintNow();
    root.dataset.hover = String(this.#shown);
    this.#send();
  }
}
