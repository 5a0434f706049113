/* Elements of the page, and their theme. */

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {Record<string, string | number>} [attributes]
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, className = "", attributes = {}, children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/**
 * Return the 2D context of a canvas, which every browser that runs notebooks has.
 * @param {HTMLCanvasElement} canvas
 */
export function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("the browser gives no 2D canvas");
  return context;
}

/**
 * Make a labelled slider; `set` moves it, unless the user holds it, and `from` changes its range.
 * @param {string} className
 * @param {string} title
 * @param {{min: number, max: number, step: number, value: number}} range
 * @param {(value: number) => void} changed
 */
export function slider(className, title, { min, max, step, value }, changed) {
  const input = element("input", className, {
    ...{ type: "range", min, max, step },
    "aria-label": title,
  });
  input.value = String(value);
  const output = element("output", "", {}, [String(value)]);
  input.addEventListener("input", () => {
    output.textContent = input.value;
    changed(Number(input.value));
  });
  const row = element("label", "samjax-slider", {}, [
    element("span", "", {}, [title]),
    input,
    output,
  ]);
  /** @param {number} next */
  const set = (next) => {
    if (input.matches(":active")) return;
    input.value = String(next);
    output.textContent = String(next);
  };
  /** @param {number} least where the slider begins from now on */
  const from = (least) => input.setAttribute("min", String(least));
  return { row, set, from };
}

/**
 * Bring the children of an element in line with a list: one child for each item, made once and
 * updated from then on, so that focus and scrolling stay where they are.
 * @template Item
 * @template {HTMLElement} Child
 * @param {HTMLElement} container
 * @param {Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => Child} make
 * @param {(child: Child, item: Item) => void} update
 */
export function keyed(container, items, keyOf, make, update) {
  /** @type {Map<string | undefined, Child>} */
  const held = new Map();
  for (const child of container.children) {
    held.set(/** @type {Child} */ (child).dataset.key, /** @type {Child} */ (child));
  }
  /** @type {Element | null} */
  let next = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = held.get(key);
    held.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === next) next = next.nextElementSibling;
    else container.insertBefore(child, next);
    update(child, item);
  }
  for (const child of held.values()) child.remove();
}

/**
 * Set a text if it is another one: screen readers and observers hear of every change.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Return "light" or "dark" by the first ground behind an element that is not transparent.
 * @param {Element} node
 */
export function themeBehind(node) {
  /** @type {Element | null} */
  let at = node;
  while (at) {
    const parts =
      getComputedStyle(at)
        .backgroundColor.match(/[\d.]+/g)
        ?.map(Number) ?? [];
    if (parts.length >= 3 && (parts.length === 3 || parts[3] > 0.5)) {
      const [r, g, b] = parts;
      return 0.299 * r + 0.587 * g + 0.114 * b < 128 ? "dark" : "light";
    }
    /** @type {Node} */
    const root = at.getRootNode();
    at = at.parentElement ?? (root instanceof ShadowRoot ? root.host : null);
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
