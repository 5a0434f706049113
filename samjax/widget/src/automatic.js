/* Automatic masks to pick from: shown as one picture, found under the mouse by an id map. */

/**
 * @import { Page } from "./page.js"
 * @import { AutomaticMasksMessage, Colour, Point, Ring, Update } from "./types"
 */
import { context2d, element, setText, slider } from "./elements.js";
import { colourWord, Mask } from "./mask.js";
import { insideRing } from "./rings.js";
import { idMap, readRuns } from "./runs.js";
import { inside } from "./view.js";

/**
 * Return the colour of the i-th automatic mask; the golden angle keeps neighbours apart.
 * @param {number} i
 * @returns {Colour}
 */
export function spreadColour(i) {
  const hue = (i * 137.508) % 360;
  /** @param {number} n */
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.58 - 0.38 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}

export class AutomaticMasks {
  /** Masks of a lower score are not shown. */
  floor = 0;
  #text = element("span");
  #slider = slider("samjax-score", "IoU from", { min: 0, max: 1, step: 0.01, value: 0 }, (v) => {
    this.floor = v;
    this.#filter();
    this.page.painter.paint();
  });
  node = element("div", "samjax-automatic", { hidden: "" }, [this.#slider.row, this.#text]);
  #find = element("input", "samjax-filter", {
    type: "search",
    placeholder: "find: a dog . a cat .",
    "aria-label": "Find what phrases name, separated by dots",
  });
  field = element("form", "samjax-find", { hidden: "" }, [this.#find]);
  /** Whether the user wants to pick. */
  picking = false;
  /** Number of the mask under the mouse, 0 for none. */
  pointed = 0;
  /** @type {ReturnType<AutomaticMasks["load"]> | null} */
  loaded = null;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.field.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.#find.value.trim();
      if (!text || !page.state.usable || page.state.told?.automatic !== null) return;
      this.picking = true;
      page.kernel.send("find", { text });
      page.focus();
    });
    this.#find.addEventListener("keydown", (event) => event.key === "Escape" && page.focus());
  }

  /** The automatic masks that the next click picks from, if it does. */
  get choosing() {
    return this.picking ? this.here : null;
  }

  /** The automatic masks of the current image. */
  get here() {
    return this.loaded && this.loaded.index === this.page.state.image?.index ? this.loaded : null;
  }

  /** Begin to pick, making the masks first if need be, or leave it. */
  toggle() {
    const { state, kernel } = this.page;
    if (this.choosing) this.picking = false;
    else if (this.here) this.picking = true;
    else if (state.usable && state.told?.automatic === null) {
      this.picking = true;
      kernel.send("automatic");
    }
  }

  leave() {
    this.picking = false;
    this.pointed = 0;
  }

  /** @param {Update} message */
  answered({ status, automatic }) {
    if (status.level === "error" && automatic === null && !this.here) this.picking = false;
  }

  /**
   * @param {AutomaticMasksMessage} message
   * @param {DataView} buffer
   */
  receive(message, buffer) {
    const before = this.loaded;
    this.loaded = this.load(message, readRuns(buffer));
    if (!this.loaded.runs.length) this.picking = false;
    // The same masks come again when the page asks anew: the person's score stays.
    const same =
      before?.index === message.index && String(before.scores) === String(message.scores);
    if (!same) this.floor = message.floor;
    this.#slider.from(message.least);
    this.#slider.set(this.floor);
    this.#filter();
    this.page.refresh();
    this.page.painter.paint();
  }

  /**
   * @param {AutomaticMasksMessage} message
   * @param {Uint32Array} all
   */
  load(message, all) {
    let start = 0;
    const runs = message.runs.map((count) => {
      start += count;
      return all.subarray(start - count, start);
    });
    const [height, width] = message.size;
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    /** @type {Mask[]} */
    const masks = [];
    return { ...message, runs, map: new Uint16Array(0), canvas, masks };
  }

  /** Show the masks from the slider's score on. */
  #filter() {
    const { loaded, floor } = this;
    if (!loaded) return;
    const { scores, areas, canvas } = loaded;
    const shown = scores.map((score) => score >= floor);
    // Those that are not shown have no runs: numbers stay as the kernel counts.
    const runs = loaded.runs.map((each, i) => (shown[i] ? each : []));
    loaded.map = idMap(runs, areas, canvas.width, canvas.height);
    const context = context2d(canvas);
    const picture = context.createImageData(canvas.width, canvas.height);
    const words = new Uint32Array(picture.data.buffer);
    const palette = runs.map((_, i) => colourWord(spreadColour(i)));
    const { map } = loaded;
    for (let i = 0; i < map.length; i++) if (map[i]) words[i] = palette[map[i] - 1];
    context.putImageData(picture, 0, 0);
    setText(this.#text, `${shown.filter(Boolean).length} of ${scores.length} masks`);
    this.pointed = 0;
  }

  refresh() {
    this.node.hidden = !this.choosing;
    this.field.hidden = !this.page.state.told?.detector;
  }

  /**
   * Return the numbers (0, 1, ...) of the masks inside of a ring.
   * @param {Ring} ring in pixels of the image
   */
  inside(ring) {
    const { here } = this;
    const { image } = this.page.state;
    if (!here || !image) return [];
    const [height, width] = here.size;
    const [sx, sy] = [image.width / width, image.height / height];
    const all = new Uint32Array(here.scores.length + 1);
    const within = new Uint32Array(here.scores.length + 1);
    const step = Math.max(1, Math.round(Math.max(width, height) / 512));
    for (let row = 0; row < height; row += step) {
      for (let column = 0; column < width; column += step) {
        const number = here.map[row * width + column];
        if (!number) continue;
        all[number]++;
        const pixel = /** @type {Point} */ ([(column + 0.5) * sx - 0.5, (row + 0.5) * sy - 0.5]);
        if (insideRing(ring, pixel)) within[number]++;
      }
    }
    return here.scores.flatMap((_, i) => (within[i + 1] > 0.6 * all[i + 1] ? [i] : []));
  }

  /**
   * Return the number (1, 2, ...) of the mask at a pixel of the image, or 0.
   * @param {Point} pixel
   */
  at([x, y]) {
    const { here } = this;
    const { image } = this.page.state;
    if (!here || !image) return 0;
    const [height, width] = here.size;
    const column = Math.floor(((x + 0.5) * width) / image.width);
    const row = Math.floor(((y + 0.5) * height) / image.height);
    if (row < 0 || column < 0 || row >= height || column >= width) return 0;
    return here.map[row * width + column];
  }

  /**
   * Show which mask a click would pick.
   * @param {Point | null} pixel
   */
  point(pixel) {
    const { image } = this.page.state;
    const number = pixel && image && inside(pixel, image) ? this.at(pixel) : 0;
    if (number === this.pointed) return;
    this.pointed = number;
    const score = this.here?.scores[number - 1];
    const label = this.here?.labels[number - 1] ?? `Automatic mask ${number}`;
    if (score !== undefined) this.page.say(`${label}, IoU ${score.toFixed(2)}`);
    this.page.painter.paint();
  }

  /** The mask under the mouse. */
  get chosen() {
    const { here, pointed } = this;
    if (!here || !pointed) return null;
    here.masks[pointed - 1] ??= new Mask(here.runs[pointed - 1], here.size[1], here.size[0]);
    return here.masks[pointed - 1];
  }
}
