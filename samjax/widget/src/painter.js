/* Painting of the canvas: the image, the masks over it, and the prompts over both. */

/**
 * @import { Mask } from "./mask.js"
 * @import { Page } from "./page.js"
 * @import { Colour, Mark, Picture } from "./types"
 */
import { context2d } from "./elements.js";
import { paintBox, paintCursor, paintPoint, paintRing, paintRings, paintStroke } from "./marks.js";

/** @type {Colour} */
export const NEW_OBJECT = [30, 144, 255];
/** @type {Colour} */
const PREVIEW = [59, 130, 246];
/** @type {Colour} */
const POINTED = [255, 255, 255];

export class Painter {
  /** @type {number | null} the animation frame that is asked for */
  #frame = null;
  #placed = false; // the view was set for this image
  #stale = true; // the base must be painted again
  #baseKey = "";
  /** @type {string[]} the objects that are part of the base */
  #drawn = [];

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.canvas = page.canvas;
    this.context = context2d(page.canvas);
    /** The image and the objects that are not active: they stay as they are from click to click. */
    this.base = document.createElement("canvas");
  }

  /** Opacity of the masks' fill. */
  get #opacity() {
    return this.page.state.fills ? this.page.state.opacity : 0;
  }

  /** Paint at the next frame. */
  paint() {
    this.#frame ??= requestAnimationFrame(() => this.paintNow());
  }

  /** The image is another one: fit it, and paint everything again. */
  newImage() {
    this.#placed = false;
    this.#stale = true;
  }

  /** Colours behind the image changed. */
  spoil() {
    this.#stale = true;
  }

  close() {
    if (this.#frame) cancelAnimationFrame(this.#frame);
  }

  paintNow() {
    if (this.#frame) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const { canvas, context, page } = this;
    const { state, view } = page;
    const { image } = state;
    const density = devicePixelRatio || 1;
    const [width, height] = [page.stage.clientWidth, page.stage.clientHeight];
    if (!width || !height) return;
    const [w, h] = [Math.round(width * density), Math.round(height * density)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      this.#stale = true;
    }
    if (image && (view.fitted || !this.#placed)) {
      view.fit(image.width, image.height, width, height);
      this.#placed = true;
    }
    if (image) view.hold(image.width, image.height, width, height);
    this.#paintBase(w, h, density);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, w, h);
    context.drawImage(this.base, 0, 0);
    page.zoomText.textContent = "";
    if (!image || !state.told) return;
    context.setTransform(density, 0, 0, density, 0, 0);
    this.#paintMasks();
    this.#paintPrompts();
    this.#paintCursor();
    Object.assign(canvas.dataset, {
      imageWidth: image.width,
      imageHeight: image.height,
      scale: view.scale,
      offsetX: view.x + view.scale / 2,
      offsetY: view.y + view.scale / 2,
    });
    page.zoomText.textContent = `${image.width} x ${image.height}   ${Math.round(100 * view.scale)}%`;
    page.root.dataset.decoded = String(state.told.replies);
  }

  /**
   * @param {number} w of the canvas, device pixels
   * @param {number} h
   * @param {number} density device pixels a CSS pixel
   */
  #paintBase(w, h, density) {
    const { base, page } = this;
    const { state, view } = page;
    const { image } = state;
    const others = state.held.filter(({ each }) => each.id !== state.told?.active);
    const opacity = this.#opacity * (page.automatic.choosing ? 0.5 : 1);
    const drawn = others.map(({ each, version, colour }) =>
      [each.id, version, colour, state.selected.has(each.id)].join(),
    );
    const place = [w, h, image?.index, view.scale, view.x, view.y];
    const look = [
      page.root.dataset.theme,
      opacity,
      state.outlines,
      state.brightness,
      state.contrast,
    ];
    const key = [...place, ...look].join();
    const same = key === this.#baseKey && !this.#stale;
    const kept = this.#drawn;
    // What was finished since lies on top: hundreds of others are not painted again for it.
    const grows = same && kept.length <= drawn.length && kept.every((one, i) => one === drawn[i]);
    this.#baseKey = key;
    this.#drawn = drawn;
    this.#stale = false;
    const context = context2d(base);
    if (!grows) {
      base.width = w;
      base.height = h;
      if (image) this.#paintImage(context, image, density);
    }
    if (!image) return;
    context.setTransform(density, 0, 0, density, 0, 0);
    for (const { each, mask, colour } of others.slice(grows ? kept.length : 0)) {
      const selected = state.selected.has(each.id);
      const emphasis = selected ? { width: 3, outline: true, dash: [7, 5] } : { width: 1.5 };
      this.#paintMask(mask, colour, { context, opacity, ...emphasis });
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context of the base
   * @param {Picture} image
   * @param {number} density device pixels a CSS pixel
   */
  #paintImage(context, image, density) {
    const { state, view } = this.page;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.imageSmoothingEnabled = view.scale * density < 3;
    context.imageSmoothingQuality = "high";
    const [width, height] = [image.width * view.scale, image.height * view.scale];
    context.shadowColor = "rgba(0, 0, 0, 0.22)";
    context.shadowBlur = 5 * density;
    context.fillStyle = "#808080";
    context.fillRect(view.x + 1, view.y + 1, width - 2, height - 2);
    context.shadowColor = "transparent";
    if (state.brightness !== 1 || state.contrast !== 1) {
      context.filter = `brightness(${state.brightness}) contrast(${state.contrast})`;
    }
    context.drawImage(image.bitmap, view.x, view.y, width, height);
    context.filter = "none";
  }

  /**
   * @param {Mask} mask
   * @param {Colour} colour
   * @param {{context?: CanvasRenderingContext2D, opacity?: number, width?: number,
   *   outline?: boolean, dash?: number[]}} [options] `width` of the outline, CSS pixels
   */
  #paintMask(mask, colour, options = {}) {
    const { state, view } = this.page;
    const { context = this.context, opacity = this.#opacity, width = 2, dash } = options;
    const { outline = state.outlines } = options;
    const { image } = state;
    const fill = mask.fill(colour);
    if (!mask.box || !fill || !image) return;
    const [left, top, right, bottom] = mask.box;
    const scale = (image.width / mask.width) * view.scale;
    const scaleY = (image.height / mask.height) * view.scale;
    context.save();
    context.translate(view.x, view.y);
    context.imageSmoothingEnabled = scale < 1;
    context.globalAlpha = opacity;
    if (opacity) {
      const size = /** @type {const} */ ([(right - left) * scale, (bottom - top) * scaleY]);
      context.drawImage(fill, left * scale, top * scaleY, ...size);
    }
    if (outline) {
      context.scale(scale, scaleY);
      context.lineCap = "square"; // thousands of short pieces: round caps doubled a click's time
      context.globalAlpha = 0.55;
      context.strokeStyle = "#fff";
      context.lineWidth = (width + 1.5) / scale;
      context.stroke(mask.outline);
      context.globalAlpha = 1;
      context.strokeStyle = `rgb(${colour})`;
      context.lineWidth = width / scale;
      if (dash) context.setLineDash(dash.map((length) => length / scale));
      context.stroke(mask.outline);
    }
    context.restore();
  }

  #paintMasks() {
    const { state, automatic } = this.page;
    const { choosing } = automatic;
    if (choosing) {
      this.#paintAutomatic(choosing.canvas);
      const chosen = automatic.chosen;
      if (chosen) this.#paintMask(chosen, POINTED, { opacity: 0.35, outline: true });
    }
    const current = state.held.find(({ each }) => each.id === state.told?.active);
    const { foreseen, active } = state;
    if (current && (!foreseen || foreseen.fresh)) {
      this.#paintMask(current.mask, current.colour, { width: 2.5 });
    }
    if (foreseen) {
      const colour = active && !foreseen.fresh ? state.colourOf(active) : NEW_OBJECT;
      this.#paintMask(foreseen.mask, colour, { width: 2.5 });
    }
    if (state.preview && !state.marks.length && !choosing) {
      this.#paintMask(state.preview, PREVIEW, { opacity: 0.3, width: 1.5, outline: true });
    }
  }

  /** @param {HTMLCanvasElement} canvas */
  #paintAutomatic(canvas) {
    const { context } = this;
    const { state, view } = this.page;
    if (!state.image) return;
    context.save();
    context.imageSmoothingEnabled = false;
    context.globalAlpha = 0.4;
    const size = /** @type {const} */ ([
      state.image.width * view.scale,
      state.image.height * view.scale,
    ]);
    context.drawImage(canvas, view.x, view.y, ...size);
    context.restore();
  }

  #paintPrompts() {
    const { context } = this;
    const { state, view, automatic, editor } = this.page;
    const each = state.active;
    const { drag } = state;
    /** @type {Mark[]} */
    const marks = [...state.marks];
    if (editor.on && !automatic.choosing) paintRings(context, view, editor.rings);
    else if (each && !automatic.choosing) {
      if (each.box) marks.push({ kind: "box", box: each.box });
      for (const [x, y, label] of each.points) marks.push({ kind: "point", point: [x, y], label });
    }
    if ((drag?.kind === "click" || drag?.kind === "cursor") && drag.box) {
      marks.push({ kind: "box", box: drag.box });
    }
    if (drag?.kind === "stroke") marks.push(drag);
    if (drag?.kind === "lasso" && drag.points.length > 1) paintRing(context, view, drag.points);
    const colour = each ? state.colourOf(each) : NEW_OBJECT;
    for (const mark of marks) if (mark.kind === "stroke") paintStroke(context, view, mark, colour);
    for (const mark of marks) if (mark.kind === "box") paintBox(context, view, mark.box);
    for (const mark of marks) {
      if (mark.kind === "point") paintPoint(context, view, mark.point, mark.label);
    }
  }

  #paintCursor() {
    const { state, view, automatic } = this.page;
    const brush = state.mode === "brush" || state.mode === "erase";
    const at = state.cursor ? view.toCss(state.cursor) : state.mouse;
    if (!at || automatic.choosing || (!brush && !state.cursor)) return;
    const ring = brush ? state.radius : null;
    paintCursor(this.context, at, { ring, cross: Boolean(state.cursor) });
  }
}
