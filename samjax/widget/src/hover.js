/* The preview under the mouse: the mask that a click there would give. */

/**
 * @import { Page } from "./page.js"
 * @import { HoverMessage, Point } from "./types"
 */
import { Mask } from "./mask.js";
import { readRuns } from "./runs.js";
import { inside, whole } from "./view.js";

const SLOW = 150; // ms that a preview of the kernel takes where the page would be faster
const TRIES = 5;

export class Hover {
  #sent = 0;
  #shown = 0;
  /** @type {Point | null} where the mouse is, pixels */
  #place = null;
  /** @type {Point | null} the place to ask for next */
  #next = null;
  /** @type {string | null} the request that is in flight */
  #request = null;
  #time = 0;
  #key = "";
  /** @type {number[]} how long the kernel's first previews took, ms */
  #waits = [];
  /** Milliseconds from the last preview's request to its paint, where the page decodes. */
  latency = Number.NaN;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
  }

  /** When the request in flight was sent; infinity if there is none. */
  get waitsSince() {
    return this.#request ? this.#time : Number.POSITIVE_INFINITY;
  }

  /** Nothing is asked for any more, and what is in flight is not shown. */
  forget() {
    this.#request = this.#next = this.#place = null;
    this.#key = "";
    this.page.state.preview = null;
  }

  /** The state changed: the preview belongs to it, or goes. */
  follow() {
    if (this.#place && !this.page.automatic.choosing) this.at(this.#place);
  }

  /** @param {Point} pixel @returns {boolean} whether a click there would begin an object */
  #asks(pixel) {
    const { state } = this.page;
    const { image, told } = state;
    return Boolean(
      image &&
        state.mode === "point" &&
        state.sign === 1 &&
        state.usable &&
        told?.image.phase === "ready" &&
        told.active === null &&
        !state.marks.length &&
        inside(pixel, image),
    );
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
    const { image } = state;
    this.#place = pixel;
    this.#next = image && pixel && this.#asks(pixel) ? whole(pixel, image) : null;
    if (this.#next) this.#send();
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
    const { told } = state;
    const key = [x, y, told?.image.index, told?.multimask, told?.threshold].join();
    if (key === this.#key && state.preview) return;
    this.#key = key;
    this.#sent += 1;
    root.dataset.hoverSent = String(this.#sent);
    const request = `${kernel.name}-hover-${this.#sent}`;
    this.#request = request;
    if (this.page.decoder.ready) {
      this.#decode(request, x, y);
      return;
    }
    this.#time = performance.now();
    kernel.post({ kind: "hover", request, x, y });
  }

  /**
   * @param {string} request
   * @param {number} x
   * @param {number} y
   */
  async #decode(request, x, y) {
    this.#time = Number.POSITIVE_INFINITY; // the kernel owes nothing
    const asked = performance.now();
    const mask = await this.page.decoder.decode({ points: [[x, y, 1]], box: null });
    if (request !== this.#request) return;
    this.#show(mask);
    this.latency = performance.now() - asked;
  }

  /**
   * @param {HoverMessage} message
   * @param {DataView[]} buffers
   */
  receive(message, buffers) {
    if (message.request !== this.#request) return;
    this.#advise(performance.now() - this.#time);
    const { image } = this.page.state;
    const here = image && message.index === image.index && buffers.length;
    this.#show(here ? new Mask(readRuns(buffers[0]), ...image.display) : null);
  }

  /**
   * Say once what makes previews fast, where the kernel is far away.
   * @param {number} wait ms that a preview took
   */
  #advise(wait) {
    if (this.#waits.push(wait) !== TRIES) return;
    const median = this.#waits.sort((a, b) => a - b)[TRIES >> 1];
    if (median < SLOW || !this.page.decoder.off) return;
    const seconds = (median / 1000).toFixed(1);
    this.page.say(
      `Previews take ${seconds} s: samjax.Annotator(..., decode_in_page=True) makes them here`,
    );
  }

  /** @param {Mask | null} mask */
  #show(mask) {
    const { state, painter, root } = this.page;
    this.#request = null;
    this.#shown += 1;
    state.preview = this.#place && this.#asks(this.#place) ? mask : null;
    painter.paintNow();
    root.dataset.hover = String(this.#shown);
    this.#send();
  }
}
