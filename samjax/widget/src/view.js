/* Where the image lies on the canvas, and geometry in its pixels; no DOM. */

/** @import { Box, Point } from "./types" */

const MAX_ZOOM = 40; // CSS pixels a pixel
const MAX_FRAME = 4; // of an object that is shown in a review

/** The transform css = (pixel + 0.5) * scale + (x, y); whole numbers are pixel centres. */
export class View {
  scale = 1;
  x = 0;
  y = 0;
  /** Whether the image is kept fitted to the stage. */
  fitted = true;

  /**
   * Show the whole image.
   * @param {number} width of the image, pixels
   * @param {number} height
   * @param {number} stageWidth CSS pixels
   * @param {number} stageHeight
   */
  fit(width, height, stageWidth, stageHeight) {
    const margin = Math.min(12, stageWidth / 20);
    this.scale = Math.min((stageWidth - 2 * margin) / width, (stageHeight - 2 * margin) / height);
    this.scale = Math.max(this.scale, 1e-3);
    this.x = (stageWidth - width * this.scale) / 2;
    this.y = (stageHeight - height * this.scale) / 2;
    this.fitted = true;
  }

  /**
   * Show a box of pixels with three times as much around it, if that is closer than the whole
   * image, and no larger than `MAX_FRAME`.
   * @param {Box} box
   * @param {number} stageWidth CSS pixels
   * @param {number} stageHeight
   */
  frame([left, top, right, bottom], stageWidth, stageHeight) {
    const [width, height] = [Math.max(right - left, 16), Math.max(bottom - top, 16)];
    const scale = Math.min(stageWidth / width, stageHeight / height) / 4;
    this.scale = Math.max(this.scale, Math.min(MAX_FRAME, scale));
    this.x = stageWidth / 2 - ((left + right) / 2) * this.scale;
    this.y = stageHeight / 2 - ((top + bottom) / 2) * this.scale;
    this.fitted = false;
  }

  /**
   * Return where a pixel is on the canvas.
   * @param {Point} pixel
   * @returns {Point}
   */
  toCss([x, y]) {
    return [(x + 0.5) * this.scale + this.x, (y + 0.5) * this.scale + this.y];
  }

  /**
   * Return the pixel, with fractions, at a place of the canvas.
   * @param {Point} css
   * @returns {Point}
   */
  toPixel([x, y]) {
    return [(x - this.x) / this.scale - 0.5, (y - this.y) / this.scale - 0.5];
  }

  /**
   * Zoom about a place of the canvas.
   * @param {number} factor
   * @param {Point} css
   * @param {number} smallest scale
   */
  zoom(factor, [cssX, cssY], smallest) {
    const scale = Math.min(MAX_ZOOM, Math.max(smallest, this.scale * factor));
    this.x = cssX - ((cssX - this.x) * scale) / this.scale;
    this.y = cssY - ((cssY - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
  }

  /**
   * @param {number} dx CSS pixels
   * @param {number} dy
   */
  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
  }

  /**
   * Keep at least a part of the image on the stage.
   * @param {number} width of the image, pixels
   * @param {number} height
   * @param {number} stageWidth CSS pixels
   * @param {number} stageHeight
   */
  hold(width, height, stageWidth, stageHeight) {
    const keep = 40;
    this.x = Math.min(stageWidth - keep, Math.max(keep - width * this.scale, this.x));
    this.y = Math.min(stageHeight - keep, Math.max(keep - height * this.scale, this.y));
  }
}

/**
 * Whether a pixel lies in an image.
 * @param {Point} pixel
 * @param {{width: number, height: number}} size
 */
export function inside([x, y], { width, height }) {
  return x >= -0.5 && y >= -0.5 && x <= width - 0.5 && y <= height - 0.5;
}

/**
 * Return the nearest whole pixel inside an image.
 * @param {Point} pixel
 * @param {{width: number, height: number}} size
 * @returns {Point}
 */
export function whole([x, y], { width, height }) {
  /** @type {(value: number, size: number) => number} */
  const within = (value, size) => Math.min(size - 1, Math.max(0, Math.round(value)));
  return [within(x, width), within(y, height)];
}

/**
 * Round to hundredths: strokes are finer than pixels, but not finer than can be seen.
 * @param {Point} pixel
 * @returns {Point}
 */
export function fine([x, y]) {
  return [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
}

/**
 * Return the box of two opposite corners.
 * @param {Point} a
 * @param {Point} b
 * @returns {Box}
 */
export function spanned(a, b) {
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
}
