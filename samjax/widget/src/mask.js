/* A mask that can be painted: its filled pixels as a small canvas, and its outline as a path. */

/** @import { Colour } from "./types" */
import { context2d } from "./elements.js";
import { area, bounds, contains, eachOutlinePiece, rowEdges } from "./runs.js";

/**
 * Pack a colour, opaque, into the word that an ImageData holds for it.
 * @param {Colour} colour
 */
export function colourWord(colour) {
  return new Uint32Array(new Uint8Array([...colour, 255]).buffer)[0];
}

export class Mask {
  /** @type {Path2D | undefined} */
  #outline;
  /** @type {HTMLCanvasElement | undefined} */
  #fill;
  #fillKey = "";
  /** @type {number | undefined} */
  #area;

  /**
   * @param {ArrayLike<number>} runs
   * @param {number} width of the mask's own grid
   * @param {number} height
   */
  constructor(runs, width, height) {
    this.rows = rowEdges(runs, width, height);
    this.box = bounds(this.rows);
    this.width = width;
    this.height = height;
  }

  /** Number of pixels. */
  get area() {
    this.#area ??= area(this.rows);
    return this.#area;
  }

  /**
   * Whether the mask is set at a place, both in 0 to 1 of the image's width and height.
   * @param {number} u
   * @param {number} v
   */
  at(u, v) {
    return contains(this.rows, Math.floor(u * this.width), Math.floor(v * this.height));
  }

  /** The outline along the pixels' edges. */
  get outline() {
    if (!this.#outline) {
      const path = new Path2D();
      eachOutlinePiece(this.rows, (x0, y0, x1, y1) => {
        path.moveTo(x0, y0);
        path.lineTo(x1, y1);
      });
      this.#outline = path;
    }
    return this.#outline;
  }

  /**
   * Return the pixels in one colour, as a canvas of the size of `box`; null for an empty mask.
   * @param {Colour} colour
   */
  fill(colour) {
    if (!this.box) return null;
    const key = colour.join();
    if (this.#fill && this.#fillKey === key) return this.#fill;
    const [left, top, right, bottom] = this.box;
    const canvas = document.createElement("canvas");
    canvas.width = right - left;
    canvas.height = bottom - top;
    const context = context2d(canvas);
    const image = context.createImageData(canvas.width, canvas.height);
    const words = new Uint32Array(image.data.buffer);
    const word = colourWord(colour);
    for (let y = top; y < bottom; y++) {
      const edges = this.rows[y];
      const start = (y - top) * canvas.width - left;
      for (let i = 0; i < edges.length; i += 2) {
        words.fill(word, start + edges[i], start + edges[i + 1]);
      }
    }
    context.putImageData(image, 0, 0);
    this.#fillKey = key;
    this.#fill = canvas;
    return canvas;
  }
}
