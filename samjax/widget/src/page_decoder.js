/* Masks decoded in the page, by a web worker: previews follow the mouse however far the kernel is.
 * What is kept is the kernel's mask, which takes the preview's place. */

/**
 * @import { Page } from "./page.js"
 * @import { Prompt } from "./logits.js"
 * @import {
 *   DecoderMessage, EmbeddingMessage, EmbeddingStart, Mark, WorkerAnswer, WorkerRequest
 * } from "./types"
 */
import { setText } from "./elements.js";
import { Mask } from "./mask.js";
import source from "./worker.js?text";

const PATIENCE = 8000; // ms without an answer before the worker counts as gone

/** @typedef {{ prompt: Prompt, fresh: boolean }} Asked `fresh`: of an object that it begins */

export class PageDecoder {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {"off" | "waiting" | "loading" | "ready" | "failed"} */
  #phase = "off";
  #provider = ""; // what the runtime computes on
  #requested = -1; // the image whose embedding was asked for
  #held = -1; // the image whose embedding the worker has
  /** @type {EmbeddingStart | null} an embedding that came before the decoder */
  #early = null;
  #requests = 0;
  /** @type {Map<number, (runs: Uint32Array | null) => void>} */
  #waiting = new Map();
  /** @type {Asked | null} what is foreseen */
  #asked = null;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.#set(page.model.get("decode_in_page") === true ? "waiting" : "off");
  }

  /** Whether nobody asked for it. */
  get off() {
    return this.#phase === "off";
  }

  /** Whether masks of the current image can be decoded here. */
  get ready() {
    return this.#phase === "ready" && this.#held === this.page.state.image?.index;
  }

  /** @param {"off" | "waiting" | "loading" | "ready" | "failed"} phase */
  #set(phase) {
    this.#phase = phase;
    this.page.root.dataset.decoder = phase;
  }

  /** Ask for the decoder; it comes while the image is read and encoded. */
  async begin() {
    if (this.#phase !== "waiting") return;
    this.#set("loading");
    const gpu = await hasGpu();
    this.page.kernel.post({ kind: "page_decoder", gpu });
  }

  /** Ask for the embedding of each image. */
  follow() {
    const { state, kernel, root } = this.page;
    root.dataset.decodes = this.ready ? String(this.#held) : "";
    if (this.#phase === "off" || this.#phase === "failed" || !state.usable) return;
    const index = state.told?.image.index ?? -1;
    if (state.told?.image.phase !== "ready" || index === this.#requested) return;
    this.#requested = index;
    kernel.post({ kind: "embedding", index });
  }

  /**
   * @param {DecoderMessage} message
   * @param {DataView[]} buffers decoder, and the runtime's two files if the kernel has them
   */
  receive({ provider, module, wasm, error }, buffers) {
    if (this.#phase !== "loading" || this.#worker) return;
    if (error) {
      this.#fail(error);
      return;
    }
    this.#provider = provider;
    const [decoder, code, binary] = buffers.map(copied);
    const blob = new Blob([source], { type: "text/javascript" });
    const address = URL.createObjectURL(blob);
    try {
      this.#worker = new Worker(address, { type: "module" });
    } catch (error) {
      this.#fail(String(error));
      return;
    } finally {
      URL.revokeObjectURL(address);
    }
    this.#worker.onmessage = ({ data }) => this.#onAnswer(data);
    this.#worker.onerror = (event) => this.#fail(event.message || "the worker does not start");
    this.#post({
      ...{ kind: "start", provider, decoder },
      ...{ module: module ?? code, wasm: wasm ?? binary },
    });
    if (this.#early) this.#post(this.#early);
    this.#early = null;
  }

  /**
   * @param {EmbeddingMessage} message
   * @param {DataView[]} buffers
   */
  receiveEmbedding({ index, original, input, side, shape }, [half]) {
    /** @type {EmbeddingStart} */
    const request = {
      kind: "embedding",
      index,
      original,
      input,
      side,
      shape,
      half: copied(half).buffer,
    };
    if (this.#worker) this.#post(request);
    else this.#early = request;
  }

  /** @param {WorkerRequest} request */
  #post(request) {
    this.#worker?.postMessage(request);
  }

  /** @param {WorkerAnswer} answer */
  #onAnswer(answer) {
    if (answer.kind === "failed") this.#fail(answer.reason);
    else if (answer.kind === "start") {
      this.#set("ready");
      this.follow();
    } else if (answer.kind === "embedding") {
      this.#held = answer.index;
      this.follow();
    } else {
      this.#waiting.get(answer.id)?.(answer.runs);
      this.#waiting.delete(answer.id);
    }
  }

  /** @param {string} reason */
  #fail(reason) {
    this.#worker?.terminate();
    this.#worker = null;
    this.#requested = this.#held = -1;
    for (const done of this.#waiting.values()) done(null);
    this.#waiting.clear();
    this.forget();
    if (this.#provider === "webgpu") {
      this.#provider = "";
      this.#set("loading");
      this.page.kernel.post({ kind: "page_decoder", gpu: false });
      return;
    }
    this.#set("failed");
    const text = `Previews come from the kernel: this page cannot decode (${reason})`;
    setText(this.page.notice, text);
    this.page.notice.title = text;
  }

  /**
   * Decode a prompt of the current image; null if that went wrong, or another image is shown.
   * @param {Prompt} prompt
   * @returns {Promise<Mask | null>}
   */
  async decode(prompt) {
    const { image, told } = this.page.state;
    if (!this.ready || !image || !told) return null;
    this.#requests += 1;
    const id = this.#requests;
    /** @type {Promise<Uint32Array | null>} */
    const answered = new Promise((done) => this.#waiting.set(id, done));
    const { index, display } = image;
    const { multimask, threshold } = told;
    this.#post({ kind: "decode", id, index, prompt, multimask, threshold, display });
    const late = setTimeout(() => this.#fail("no answer"), PATIENCE);
    const runs = await answered;
    clearTimeout(late);
    return runs && this.page.state.image === image ? new Mask(runs, ...display) : null;
  }

  /**
   * Show the mask that a click or a box will give, before the kernel answers.
   * @param {Mark} mark
   */
  async foresee(mark) {
    const { state, painter, root } = this.page;
    const asked = this.ready ? this.#asks(mark) : null;
    this.#asked = asked;
    if (!asked) return;
    const mask = await this.decode(asked.prompt);
    if (!mask || this.#asked !== asked || !state.marks.includes(mark)) return;
    state.foreseen = { mask, fresh: asked.fresh };
    root.dataset.foreseen = String(Number(root.dataset.foreseen ?? 0) + 1);
    painter.paintNow();
  }

  /**
   * Return the prompt that a mark makes, with what the kernel has yet to answer of the object;
   * null where only the kernel knows.
   * @param {Mark} mark
   * @returns {Asked | null}
   */
  #asks(mark) {
    const { state, kernel } = this.page;
    if (mark.kind === "stroke") return null;
    if (mark.kind === "box" && state.mode === "box" && state.separate) {
      return { prompt: { points: [], box: mark.box }, fresh: true };
    }
    const before = kernel.busy ? this.#asked : this.#ofActive();
    if (!before) return null;
    const { points, box } = before.prompt;
    if (mark.kind === "box") return { ...before, prompt: { points, box: mark.box } };
    return { ...before, prompt: { points: [...points, [...mark.point, mark.label]], box } };
  }

  /** @returns {Asked | null} */
  #ofActive() {
    const { active, told } = this.page.state;
    if (!active) return { prompt: { points: [], box: null }, fresh: true };
    if (active.strokes || active.opened || told?.candidates?.rank) return null;
    return { prompt: { points: active.points, box: active.box }, fresh: false };
  }

  /** What was foreseen is answered, or something else was done since. */
  forget() {
    this.#asked = null;
    this.page.state.foreseen = null;
  }

  close() {
    this.#worker?.terminate();
    this.#worker = null;
  }
}

/** @param {DataView} view */
function copied(view) {
  const { buffer, byteOffset, byteLength } = view;
  return new Uint8Array(
    /** @type {ArrayBuffer} */ (buffer).slice(byteOffset, byteOffset + byteLength),
  );
}

/** Whether the browser computes on a GPU, and not on a stand-in for one. */
async function hasGpu() {
  const { gpu } = /** @type {any} */ (navigator);
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}
