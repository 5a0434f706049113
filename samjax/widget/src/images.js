/* The list of images: names, thumbnails and how far each has come; a click jumps there. */

/**
 * @import { Page } from "./page.js"
 * @import { ImagesMessage, ThumbnailMessage } from "./types"
 */
import { element, keyed, setText } from "./elements.js";

/**
 * Say how far an image has come.
 * @param {[number, number]} counts objects, and those that are done
 */
export function progressText([objects, done]) {
  if (!objects) return "no objects";
  const count = `${objects} object${objects === 1 ? "" : "s"}`;
  return done === objects ? `${count}, done` : `${count}, ${done} done`;
}

export class ImageList {
  #filter = element("input", "samjax-filter", {
    type: "search",
    placeholder: "filter",
    "aria-label": "Show images whose name has this",
  });
  #only = element("select", "samjax-only", { "aria-label": "Show images by state" }, [
    element("option", "", { value: "all" }, ["all"]),
    element("option", "", { value: "open" }, ["not done"]),
    element("option", "", { value: "done" }, ["done"]),
  ]);
  #rows = element("div", "samjax-imagerows", { role: "group", "aria-label": "Images" });
  node = element("aside", "samjax-imagelist", { "aria-label": "Images", hidden: "" }, [
    element("div", "samjax-imagefilter", {}, [this.#filter, this.#only]),
    this.#rows,
  ]);
  /** @type {ImagesMessage | null} */
  #told = null;
  /** @type {Map<number, string>} addresses of the pictures */
  #pictures = new Map();
  /** @type {Set<number>} thumbnails that were asked for */
  #asked = new Set();
  #seen = new IntersectionObserver((entries) => this.#onSeen(entries), { root: this.#rows });

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.#filter.addEventListener("input", () => this.refresh());
    this.#only.addEventListener("change", () => this.refresh());
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle();
    });
  }

  close() {
    this.#seen.disconnect();
    for (const address of this.#pictures.values()) URL.revokeObjectURL(address);
  }

  toggle() {
    this.node.hidden = !this.node.hidden;
    if (this.node.hidden) {
      this.page.focus();
      return;
    }
    this.page.kernel.send("list_images");
    this.#filter.focus({ preventScroll: true });
  }

  /** @param {ImagesMessage} message */
  receive(message) {
    this.#told = message;
    this.refresh();
  }

  /**
   * @param {ThumbnailMessage} message
   * @param {DataView} buffer
   */
  receiveThumbnail({ index }, buffer) {
    const jpeg = new Blob([/** @type {DataView<ArrayBuffer>} */ (buffer)], { type: "image/jpeg" });
    this.#pictures.set(index, URL.createObjectURL(jpeg));
    this.refresh();
  }

  refresh() {
    const { told } = this.page.state;
    if (this.node.hidden || !told || !this.#told) return;
    const { names, counts } = this.#told;
    counts[told.image.index] = [
      told.objects.length,
      told.objects.filter((each) => each.done).length,
    ];
    const wanted = this.#filter.value.trim().toLowerCase();
    const only = this.#only.value;
    const shown = names.flatMap((name, index) => {
      const [objects, committed] = counts[index];
      const done = objects > 0 && objects === committed;
      const fits = only === "all" || done === (only === "done");
      return fits && name.toLowerCase().includes(wanted) ? [{ name, index }] : [];
    });
    keyed(
      this.#rows,
      shown,
      ({ index }) => String(index),
      ({ name, index }) => this.#row(name, index),
      (row, { index }) => {
        const current = index === told.image.index;
        row.setAttribute("aria-current", String(current));
        const [objects, committed] = counts[index];
        row.dataset.done = String(objects > 0 && objects === committed);
        const [picture, text] = row.children;
        setText(text.children[1], progressText(counts[index]));
        const address = this.#pictures.get(index);
        if (address && picture.getAttribute("src") !== address) {
          picture.setAttribute("src", address);
        }
      },
    );
  }

  /**
   * @param {string} name
   * @param {number} index
   */
  #row(name, index) {
    const row = element("button", "samjax-imagerow", { type: "button", title: name }, [
      element("img", "", { alt: "" }),
      element("span", "", {}, [element("b", "", {}, [name]), element("small")]),
    ]);
    row.dataset.image = String(index);
    row.addEventListener("click", () => this.page.kernel.send("go", { index }));
    this.#seen.observe(row);
    return row;
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onSeen(entries) {
    const indices = entries
      .filter(({ isIntersecting }) => isIntersecting)
      .map(({ target }) => Number(/** @type {HTMLElement} */ (target).dataset.image))
      .filter((index) => !this.#asked.has(index));
    for (const index of indices) this.#asked.add(index);
    const request = "thumbnails"; // answered by pictures, not by an update
    if (indices.length) this.page.kernel.post({ kind: "thumbnails", request, indices });
  }
}
