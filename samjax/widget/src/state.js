/* What the page knows: the kernel's last word, the masks it sent, and how the user looks at them. */

/**
 * @import {
 *   Colour, Drag, Foreseen, HeldMask, Mark, Mode, ObjectEntry, Picture, Point, Thumbnails, Update
 * } from "./types"
 */
import { Mask } from "./mask.js";

export class PageState {
  /** @type {Update | null} the state of the current image, as the kernel has it */
  told = null;
  /** @type {Picture | null} the last image that came; `image` says whether it is the current one */
  picture = null;
  /** @type {Map<number, HeldMask>} by object id */
  masks = new Map();
  /** @type {Thumbnails | null} of the candidates */
  thumbnails = null;
  /** @type {Mark[]} clicks, boxes and strokes that wait for their mask */
  marks = [];
  /** @type {Mask | null} the mask that a click here would give */
  preview = null;
  /** @type {Foreseen | null} */
  foreseen = null;
  /** No answer from the kernel. */
  gone = false;

  /** @type {Mode} */
  mode = "point";
  /** Label of the next clicks. */
  sign = 1;
  /** In the box tool each box is a new object. */
  separate = true;
  opacity = 0.45;
  fills = true;
  outlines = true;
  /** @type {"object" | "class"} */
  colourBy = "object";
  /** Brightness and contrast of the picture, 1 as it is; masks are made of the original. */
  brightness = 1;
  contrast = 1;
  /** @type {Set<number>} objects that are not shown */
  hidden = new Set();
  /** @type {Set<string>} classes that are not shown */
  hiddenClasses = new Set();
  /** @type {Set<number>} objects selected beside the active one, to be merged or subtracted */
  selected = new Set();
  /** Radius of the brush, CSS pixels. */
  radius = 14;

  /** @type {Drag | null} */
  drag = null;
  /** @type {Point | null} the first corner of a box that the keyboard's cursor draws */
  corner = null;
  /** @type {Point | null} the keyboard's cursor, pixels */
  cursor = null;
  /** @type {Point | null} the mouse, CSS pixels of the canvas */
  mouse = null;

  /** The picture of the current image, if it is here. */
  get image() {
    return this.picture && this.told && this.picture.index === this.told.image.index
      ? this.picture
      : null;
  }

  /** The active object. */
  get active() {
    return this.told?.objects.find((each) => each.id === this.told?.active) ?? null;
  }

  /** Whether the image takes prompts. */
  get usable() {
    return Boolean(this.image) && this.told?.image.phase !== "error" && !this.gone;
  }

  /**
   * Whether an object is shown; the active one always is.
   * @param {ObjectEntry} each
   */
  shows({ id, label }) {
    if (id === this.told?.active) return true;
    return !this.hidden.has(id) && !this.hiddenClasses.has(label);
  }

  /**
   * Return the colour of an object, by itself or by its class.
   * @param {ObjectEntry} each
   * @returns {Colour}
   */
  colourOf({ colour, label }) {
    if (this.colourBy === "object" || !this.told) return colour;
    return this.told.class_colours[this.told.classes.indexOf(label)] ?? colour;
  }

  /** The objects of this image that are shown and whose mask is here. */
  get held() {
    if (!this.image || !this.told) return [];
    return this.told.objects.flatMap((each) => {
      const { version, mask } = this.masks.get(each.id) ?? {};
      if (!mask || version === undefined || !this.shows(each)) return [];
      return [{ each, version, mask, colour: this.colourOf(each) }];
    });
  }

  /**
   * Return the object at a pixel, the smallest of those that lie there.
   * @param {Point} pixel
   */
  objectAt([x, y]) {
    const { image } = this;
    if (!image) return null;
    const [u, v] = [(x + 0.5) / image.width, (y + 0.5) / image.height];
    const there = this.held.filter(({ mask }) => mask.at(u, v));
    there.sort((a, b) => a.mask.area - b.mask.area);
    return there[0]?.each ?? null;
  }

  /** The active object and those selected beside it, by id, in the order of the list. */
  get chosen() {
    const active = this.told?.active ?? null;
    const others = [...this.selected].filter((id) => id !== active);
    return active === null ? others : [active, ...others];
  }

  /**
   * Name the state of the page.
   * @param {boolean} busy whether an answer is awaited
   */
  name(busy) {
    if (this.gone) return "disconnected";
    if (!this.told) return "loading";
    if (this.told.image.phase === "error") return "error";
    if (!this.image) return "loading";
    if (this.told.image.phase !== "ready") return "encoding";
    return busy ? "busy" : "ready";
  }

  /** Turn runs into masks, as soon as the size of the display is known. */
  unpack() {
    const display = this.image?.display;
    if (!display) return;
    for (const held of this.masks.values()) held.mask ??= new Mask(held.runs, ...display);
  }

  /** Forget what belonged to another image. */
  leave() {
    this.marks = [];
    this.preview = this.foreseen = this.drag = this.corner = this.cursor = null;
    this.thumbnails = null;
    this.hidden.clear();
    this.selected.clear();
  }
}
