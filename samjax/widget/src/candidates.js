/* The candidates of the active object: thumbnails to choose from. */

/**
 * @import { Page } from "./page.js"
 * @import { CandidateEntry, Colour } from "./types"
 */
import { context2d, element, keyed, setText } from "./elements.js";
import { NEW_OBJECT } from "./painter.js";

export class CandidatePanel {
  node = element("div", "samjax-candidates", { role: "group", "aria-label": "Masks" });
  /** @type {string | null} */
  #key = null;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
  }

  forget() {
    this.#key = null;
  }

  /** Show the candidates in three places that are always there, so that nothing jumps. */
  refresh() {
    const { state } = this.page;
    const { told, thumbnails, active } = state;
    if (!told) return;
    const { candidates } = told;
    const colour = active ? state.colourOf(active) : NEW_OBJECT;
    const key = candidates
      ? JSON.stringify([candidates.scores, candidates.rank, thumbnails?.key, colour])
      : "";
    if (key === this.#key) return;
    this.#key = key;
    const count = Math.max(3, candidates?.scores.length ?? 0);
    keyed(
      this.node,
      Array.from({ length: count }, (_, i) => i),
      (i) => `${i}${candidates && i < candidates.scores.length ? "" : " none"}`,
      (i) => this.#place(i),
      (place, i) => {
        if (candidates && i < candidates.scores.length) this.#update(place, candidates, i, colour);
      },
    );
  }

  /** @param {number} i */
  #place(i) {
    const told = this.page.state.told?.candidates;
    if (!told || i >= told.scores.length) return element("div", "samjax-place");
    const made = element(
      "button",
      "samjax-candidate",
      { type: "button", "data-candidate": i, title: "Take this mask (M)" },
      [element("canvas", "", { "aria-hidden": "true" }), element("small")],
    );
    made.addEventListener("click", () => this.page.kernel.send("choose", { index: i }));
    return made;
  }

  /**
   * @param {HTMLElement} place
   * @param {CandidateEntry} candidates
   * @param {number} i
   * @param {Colour} colour
   */
  #update(place, { scores, rank }, i, colour) {
    const [canvas, small] = place.children;
    const score = scores[i].toFixed(2);
    place.setAttribute("aria-pressed", String(i === rank));
    place.setAttribute("aria-label", `Mask ${i + 1} of ${scores.length}, IoU ${score}`);
    setText(small, score);
    this.#paint(/** @type {HTMLCanvasElement} */ (canvas), i, colour);
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number} i
   * @param {Colour} colour
   */
  #paint(canvas, i, colour) {
    const { thumbnails, image } = this.page.state;
    if (!thumbnails || i >= thumbnails.masks.length) return;
    const { masks, size, region } = thumbnails;
    const [height, width] = size;
    canvas.width = width; // which clears it, too
    canvas.height = height;
    const context = context2d(canvas);
    const [left, top, right, bottom] = region;
    if (image) {
      const part = /** @type {const} */ ([left, top, right - left, bottom - top]);
      context.drawImage(image.bitmap, ...part, 0, 0, width, height);
    }
    const mask = masks[i];
    const fill = mask.fill(colour);
    if (!mask.box || !fill) return;
    context.globalAlpha = 0.6;
    context.drawImage(fill, mask.box[0], mask.box[1]);
    context.globalAlpha = 1;
    context.strokeStyle = `rgb(${colour})`;
    context.stroke(mask.outline);
  }
}
