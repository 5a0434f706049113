/* Editing of the active object's outline by its vertices. */

/**
 * @import { Page } from "./page.js"
 * @import { Point, Ring } from "./types"
 */
import { nearestVertex, simplifyRing, traceRings } from "./rings.js";
import { fine } from "./view.js";

const REACH = 9; // CSS pixels within which a vertex is taken
const EDGE_REACH = 7;
const TOLERANCE = 1.5; // CSS pixels by which the rings may differ from the outline

export class OutlineEditor {
  /** @type {Ring[]} in pixels of the image */
  rings = [];
  /** @type {Ring[]} as they were before the drag */
  #before = [];
  #key = "";
  #sent = false; // the next mask is that of the rings, which stay as they are

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
  }

  /** Whether vertices are shown. */
  get on() {
    return this.page.state.mode === "edit" && this.page.state.active !== null;
  }

  /** Trace the outline again if the mask is another one. */
  answered() {
    const { state } = this.page;
    const held = state.held.find(({ each }) => each.id === state.told?.active);
    const key = this.on && held ? `${state.image?.index},${held.each.id},${held.version}` : "";
    if (key === this.#key) return;
    const keep = this.#sent && this.#key.split(",")[1] === key.split(",")[1];
    this.#key = key;
    this.#sent = false;
    if (keep) return;
    this.rings = [];
    const { image } = state;
    if (!key || !held || !image) return;
    const { mask } = held;
    const [sx, sy] = [image.width / mask.width, image.height / mask.height];
    // Zoomed in, the rings are finer; half a pixel of the mask is the stairs of its edge.
    const tolerance = Math.max(0.6, TOLERANCE / (sx * this.page.view.scale));
    this.rings = traceRings(mask.rows).map((ring) =>
      simplifyRing(ring, tolerance).map(([x, y]) => fine([x * sx - 0.5, y * sy - 0.5])),
    );
  }

  /**
   * Take the vertex at a place, or a new one on the edge there; or remove a vertex.
   * @param {Point} at CSS pixels
   * @param {boolean} remove
   * @returns {{kind: "vertex", ring: number, vertex: number} | null}
   */
  take(at, remove) {
    const { view } = this.page;
    const shown = this.rings.map((ring) => ring.map((point) => view.toCss(point)));
    const found = nearestVertex(shown, at, REACH, remove ? 0 : EDGE_REACH);
    if (!found) return null;
    this.#before = this.rings.map((ring) => [...ring]);
    const { ring, edge } = found;
    const vertex = found.vertex + (edge ? 1 : 0);
    if (remove) {
      if (this.rings[ring].length > 3) this.rings[ring].splice(vertex, 1);
      else this.rings.splice(ring, 1);
      this.finish();
      return null;
    }
    if (edge) this.rings[ring].splice(vertex, 0, fine(view.toPixel(at)));
    return { kind: "vertex", ring, vertex };
  }

  /**
   * @param {number} ring
   * @param {number} vertex
   * @param {Point} pixel
   */
  move(ring, vertex, pixel) {
    if (this.rings[ring]) this.rings[ring][vertex] = fine(pixel);
  }

  /** Send what changed. */
  finish() {
    const [before, after] = [this.#before, this.rings];
    if (JSON.stringify(before) === JSON.stringify(after)) return;
    if (!after.length) {
      this.page.say("Nothing would be left of the object: delete it instead", "error");
      this.rings = before;
      return;
    }
    this.#sent = true;
    this.page.kernel.send("reshape", { before, after });
  }
}
