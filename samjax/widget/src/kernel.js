/* Messages to and from the kernel, which holds the truth. */

/**
 * @import { Page } from "./page.js"
 * @import {
 *   CandidateEntry, ImageMessage, KernelMessage, ObjectEntry, UpdateMessage
 * } from "./types"
 */
import { Mask } from "./mask.js";
import { readRuns } from "./runs.js";

const PATIENCE = 8000; // ms without an answer before the kernel counts as gone

/**
 * Return the objects of a message, in which those that the page holds already are their ids alone.
 * @param {(ObjectEntry | number)[]} sent
 * @param {ObjectEntry[]} held
 */
export function freshObjects(sent, held) {
  const byId = new Map(held.map((each) => [each.id, each]));
  return sent.flatMap((each) => (typeof each === "number" ? (byId.get(each) ?? []) : [each]));
}

export class Kernel {
  /** @type {Map<string, number>} request -> time it was sent */
  #pending = new Map();
  #requests = 0;
  #incoming = -1; // number of the image that is being unpacked
  /** Prefix of this page's requests: several pages may show one widget. */
  name = Math.random().toString(36).slice(2, 8);

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.onMessage = (/** @type {KernelMessage} */ message, /** @type {DataView[]} */ buffers) =>
      this.#receive(message, buffers ?? []);
    this.onClose = () => this.lose();
    page.model.on("msg:custom", this.onMessage);
    page.model.on("comm:close", this.onClose);
    this.timer = setInterval(() => this.#watch(), 1000);
  }

  close() {
    clearInterval(this.timer);
    this.page.model.off("msg:custom", this.onMessage);
    this.page.model.off("comm:close", this.onClose);
  }

  /** Whether an answer is awaited. */
  get busy() {
    return this.#pending.size > 0;
  }

  /**
   * Send a message that is answered by an update; returns its request.
   * @param {string} kind
   * @param {Record<string, unknown>} [content]
   */
  send(kind, content = {}) {
    if (kind !== "set_threshold") this.page.actions.settle();
    if (kind !== "click" && kind !== "box") this.page.decoder.forget();
    this.#requests += 1;
    const request = `${this.name}-${this.#requests}`;
    this.#pending.set(request, performance.now());
    this.post({ kind, request, revision: this.page.state.told?.revision, ...content });
    if (kind !== "hello") this.page.root.dataset.state = this.page.state.name(this.busy);
    return request;
  }

  /**
   * Send a message; after a restart of the kernel the host refuses to.
   * @param {Record<string, unknown>} message
   */
  post(message) {
    try {
      this.page.model.send(message);
    } catch {
      this.lose();
    }
  }

  /** Show that the kernel does not answer. */
  lose() {
    const { page } = this;
    page.state.gone = true;
    page.state.marks = [];
    this.#pending.clear();
    page.hover.forget();
    page.actions.forget();
    page.decoder.forget();
    page.refresh();
    page.say(page.veil.textContent ?? "", "error");
    page.painter.paint();
  }

  #watch() {
    const oldest = Math.min(...this.#pending.values(), this.page.hover.waitsSince);
    if (performance.now() - oldest > PATIENCE && !this.page.state.gone) this.lose();
  }

  /**
   * @param {KernelMessage} message
   * @param {DataView[]} buffers
   */
  #receive(message, buffers) {
    if (message.kind === "image") this.#onImage(message, buffers[0]);
    else if (message.kind === "update") this.#onUpdate(message, buffers);
    else if (message.kind === "automatic_masks") this.page.automatic.receive(message, buffers[0]);
    else if (message.kind === "hover") this.page.hover.receive(message, buffers);
    else if (message.kind === "page_decoder") this.page.decoder.receive(message, buffers);
    else if (message.kind === "embedding") this.page.decoder.receiveEmbedding(message, buffers);
    else if (message.kind === "download") this.page.exporter.receive(message, buffers[0]);
    else if (message.kind === "images") this.page.images.receive(message);
    else if (message.kind === "thumbnail") this.page.images.receiveThumbnail(message, buffers[0]);
  }

  /**
   * @param {ImageMessage} message
   * @param {DataView} buffer
   */
  async #onImage(message, buffer) {
    const { page } = this;
    this.#incoming = message.index;
    page.state.masks.clear();
    const jpeg = new Blob([/** @type {DataView<ArrayBuffer>} */ (buffer)], { type: "image/jpeg" });
    const bitmap = await createImageBitmap(jpeg);
    if (this.#incoming !== message.index) return; // another one came while it was unpacked
    page.state.picture?.bitmap.close();
    page.state.picture = { ...message, bitmap };
    page.state.preview = null;
    page.painter.newImage();
    page.candidates.forget();
    page.state.unpack();
    page.refresh();
    page.painter.paintNow();
  }

  /**
   * @param {UpdateMessage} message
   * @param {DataView[]} buffers
   */
  #onUpdate(message, buffers) {
    const { page } = this;
    const { state } = page;
    state.gone = false;
    if (message.request) this.#pending.delete(message.request);
    if (state.told?.image.index !== message.image.index) {
      state.leave();
      page.automatic.leave();
    }
    const objects = freshObjects(message.objects, state.told?.objects ?? []);
    state.told = { ...message, objects };
    message.masks.forEach(({ id, version }, i) => {
      state.masks.set(id, { version, runs: readRuns(buffers[i]) });
    });
    const alive = new Set(objects.map((each) => each.id));
    for (const id of state.masks.keys()) if (!alive.has(id)) state.masks.delete(id);
    for (const id of state.selected) if (!alive.has(id)) state.selected.delete(id);
    for (const id of state.hidden) if (!alive.has(id)) state.hidden.delete(id);
    const small = buffers.slice(message.masks.length);
    if (message.candidates) this.#keepThumbnails(message.candidates, small, message.replies);
    if (!this.busy) {
      state.marks = [];
      page.decoder.forget();
    }
    page.actions.answered(state.told);
    page.automatic.answered(state.told);
    state.unpack();
    page.hover.follow();
    page.editor.answered();
    page.refresh();
    page.painter.paintNow();
  }

  /**
   * @param {CandidateEntry} told
   * @param {DataView[]} buffers
   * @param {number} replies
   */
  #keepThumbnails({ fresh, size, region }, buffers, replies) {
    if (!fresh || !size || !region) return;
    const [height, width] = size;
    const masks = buffers.map((each) => new Mask(readRuns(each), width, height));
    this.page.state.thumbnails = { size, region, masks, key: `${replies}${this.name}` };
  }
}
