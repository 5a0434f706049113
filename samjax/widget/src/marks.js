/* Drawing of prompts on the canvas: points, boxes, strokes and the cursor. */

/**
 * @import { Box, Colour, Point, Ring } from "./types"
 * @import { View } from "./view.js"
 */

/**
 * Draw a stroke of the brush while its mask is made.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {{points: Point[], radius: number, add: boolean}} stroke in pixels of the image
 * @param {Colour} colour
 */
export function paintStroke(context, view, { points, radius, add }, colour) {
  context.save();
  context.lineCap = "round";
  context.lineJoin = "round";
  context.lineWidth = 2 * radius * view.scale;
  context.strokeStyle = add ? `rgba(${colour}, 0.6)` : "rgba(15, 23, 42, 0.55)";
  context.beginPath();
  context.moveTo(...view.toCss(points[0]));
  for (const point of points) context.lineTo(...view.toCss(point));
  context.stroke();
  context.restore();
}

/**
 * Draw the box of a prompt: white dashes on a dark line.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Box} box
 */
export function paintBox(context, view, [x0, y0, x1, y1]) {
  const [left, top] = view.toCss([x0, y0]);
  const [right, bottom] = view.toCss([x1, y1]);
  context.save();
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(15, 23, 42, 0.5)";
  context.strokeRect(left, top, right - left, bottom - top);
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.setLineDash([7, 4]);
  context.strokeRect(left, top, right - left, bottom - top);
  context.restore();
}

/**
 * Draw a click: positive a green disc with a plus, negative a red diamond with a minus.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Point} point
 * @param {number} label
 */
export function paintPoint(context, view, point, label) {
  const [x, y] = view.toCss(point);
  /** @param {number} size */
  const shape = (size) => {
    context.beginPath();
    if (label) context.arc(x, y, size, 0, 2 * Math.PI);
    else {
      const s = size * 1.2;
      context.moveTo(x, y - s);
      context.lineTo(x + s, y);
      context.lineTo(x, y + s);
      context.lineTo(x - s, y);
      context.closePath();
    }
  };
  context.save();
  context.shadowColor = "rgba(0, 0, 0, 0.45)";
  context.shadowBlur = 4;
  context.fillStyle = "#fff";
  shape(8.5);
  context.fill();
  context.shadowColor = "transparent";
  context.fillStyle = label ? "#16a34a" : "#dc2626";
  shape(6.8);
  context.fill();
  context.strokeStyle = "#fff";
  context.lineWidth = 1.8;
  context.beginPath();
  context.moveTo(x - 3.2, y);
  context.lineTo(x + 3.2, y);
  if (label) {
    context.moveTo(x, y - 3.2);
    context.lineTo(x, y + 3.2);
  }
  context.stroke();
  context.restore();
}

/**
 * Draw a lasso: white dashes on a dark line.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Ring} ring in pixels of the image
 */
export function paintRing(context, view, ring) {
  context.save();
  context.beginPath();
  for (const point of ring) context.lineTo(...view.toCss(point));
  context.closePath();
  context.fillStyle = "rgba(255, 255, 255, 0.15)";
  context.fill();
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(15, 23, 42, 0.5)";
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.setLineDash([7, 4]);
  context.stroke();
  context.restore();
}

/**
 * Draw rings with a handle at each vertex.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Ring[]} rings in pixels of the image
 */
export function paintRings(context, view, rings) {
  context.save();
  for (const [colour, width] of /** @type {const} */ ([
    ["rgba(15, 23, 42, 0.6)", 3.5],
    ["#fff", 1.5],
  ])) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const ring of rings) {
      context.moveTo(...view.toCss(ring[ring.length - 1]));
      for (const point of ring) context.lineTo(...view.toCss(point));
    }
    context.stroke();
  }
  context.fillStyle = "#fff";
  context.strokeStyle = "rgba(15, 23, 42, 0.8)";
  context.lineWidth = 1.25;
  context.beginPath();
  for (const ring of rings) {
    for (const point of ring) {
      const [x, y] = view.toCss(point);
      context.rect(x - 3, y - 3, 6, 6);
    }
  }
  context.fill();
  context.stroke();
  context.restore();
}

/**
 * Draw the brush's ring, the keyboard's cross, or both.
 * @param {CanvasRenderingContext2D} context
 * @param {Point} at CSS pixels
 * @param {{ring: number | null, cross: boolean}} parts `ring`: radius in CSS pixels
 */
export function paintCursor(context, [x, y], { ring, cross }) {
  context.save();
  for (const [colour, width] of /** @type {const} */ ([
    ["rgba(15, 23, 42, 0.6)", 3],
    ["#fff", 1.25],
  ])) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    if (ring !== null) context.arc(x, y, ring, 0, 2 * Math.PI);
    if (cross) {
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
    }
    context.stroke();
  }
  context.restore();
}
