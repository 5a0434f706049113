/* The panels beside the image: classes and objects. */

/**
 * @import { Page } from "./page.js"
 * @import { ObjectEntry } from "./types"
 */
import { element, keyed, setText } from "./elements.js";
import { icon } from "./icons.js";

/**
 * Make a button with an eye that hides or shows.
 * @param {string} title
 * @param {() => void} act
 */
function eye(title, act) {
  const made = element("button", "samjax-eye", { type: "button", title, "aria-label": title });
  made.innerHTML = icon("show");
  made.addEventListener("click", act);
  return made;
}

/**
 * @param {Element} button an eye
 * @param {boolean} hidden
 */
function setEye(button, hidden) {
  if (button.getAttribute("aria-pressed") === String(hidden)) return;
  button.setAttribute("aria-pressed", String(hidden));
  button.innerHTML = icon(hidden ? "hide" : "show");
}

/** The classes: a chip for each, and a field for a new one or a new name. */
export class ClassPanel {
  #chips = element("div", "samjax-chips");
  #entry = element("input", "samjax-newlabel", {
    type: "text",
    placeholder: "new class",
    "aria-label": "Name of a new class",
    maxlength: "100",
  });
  node = element("div", "samjax-labels", { role: "group", "aria-label": "Classes" }, [
    this.#chips,
    this.#entry,
  ]);
  /** @type {string | null} the class that gets another name */
  #renamed = null;
  #seen = ""; // the class that was scrolled into view last, and of what

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.#entry.addEventListener("keydown", (event) => this.#onKey(event));
    this.#entry.addEventListener("blur", () => this.#leave());
  }

  refresh() {
    const { state } = this.page;
    const { told } = state;
    if (!told) return;
    keyed(
      this.#chips,
      told.classes.map((name, i) => ({ name, i })),
      ({ name }) => name,
      ({ name }) => this.#chip(name),
      (chip, { name, i }) => {
        const [label, hides] = chip.children;
        label.setAttribute("aria-pressed", String(name === told.label));
        label.setAttribute(
          "title",
          `${name}${i < 9 ? ` (${i + 1})` : ""}; right-click or F2 renames`,
        );
        setEye(hides, state.hiddenClasses.has(name));
        const [r, g, b] = told.class_colours[i];
        chip.style.setProperty("--sj-colour", `rgb(${r}, ${g}, ${b})`);
        chip.dataset.coloured = String(state.colourBy === "class");
      },
    );
    const key = `${told.image.index}/${told.active}/${told.label}`;
    if (key === this.#seen) return;
    this.#seen = key;
    const shown = this.node.querySelector('.samjax-label[aria-pressed="true"]');
    if (!shown) return;
    const [box, chip] = [this.node.getBoundingClientRect(), shown.getBoundingClientRect()];
    if (chip.top < box.top) this.node.scrollTop += chip.top - box.top;
    else if (chip.bottom > box.bottom) this.node.scrollTop += chip.bottom - box.bottom;
  }

  /** @param {string} name */
  #chip(name) {
    const { kernel, actions, state } = this.page;
    const label = element("button", "samjax-label", { type: "button", "data-label": name }, [name]);
    label.addEventListener("click", () => kernel.send("label", { name }));
    const rename = (/** @type {Event} */ event) => {
      event.preventDefault();
      event.stopPropagation();
      this.#rename(name);
    };
    label.addEventListener("contextmenu", rename); // a long press, too
    label.addEventListener("keydown", (event) => event.key === "F2" && rename(event));
    const hides = eye(`Hide or show ${name}`, () => actions.toggleShown(state.hiddenClasses, name));
    return element("span", "samjax-chip", {}, [label, hides]);
  }

  /** @param {string | null} name */
  #rename(name) {
    this.#renamed = name;
    this.#entry.value = name ?? "";
    const title = name === null ? "Name of a new class" : `New name of ${name}`;
    this.#entry.setAttribute("aria-label", title);
    this.#entry.dataset.renames = String(name !== null);
    if (name === null) return;
    this.#entry.focus();
    this.#entry.select();
    this.page.say(
      `New name of ${name}: of a class that exists it becomes a part. Enter, or Escape`,
    );
  }

  /** Keep what was typed and not entered, until the user comes back to it. */
  #leave() {
    const typed = this.#entry.value.trim();
    if (!typed || typed === this.#renamed) this.#rename(null);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    event.stopPropagation();
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    const name = this.#entry.value.trim();
    const old = this.#renamed;
    if (event.key === "Enter" && name && old === null) this.page.kernel.send("label", { name });
    else if (event.key === "Enter" && name && name !== old) {
      this.page.kernel.send("rename_class", { old, new: name });
    }
    this.#entry.value = "";
    this.page.focus();
  }
}

/** The objects of the image, one row each. */
export class ObjectPanel {
  #none = element("p", "samjax-none", {}, [
    "Click on an object. Right-click on what is not part of it. Drag a box.",
  ]);
  #rows = element("div", "samjax-rows");
  node = element("div", "samjax-objects", { role: "group", "aria-label": "Objects" }, [
    this.#none,
    this.#rows,
  ]);
  /** @type {number | null} */
  #active = null;
  /** @type {WeakMap<HTMLElement, string>} what a row shows: hundreds of them mostly stay */
  #shown = new WeakMap();

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
  }

  refresh() {
    const { told } = this.page.state;
    if (!told) return;
    this.#none.hidden = told.objects.length > 0;
    keyed(
      this.#rows,
      told.objects,
      ({ id }) => String(id),
      ({ id }) => this.#row(id),
      (row, each) => this.#update(row, each, each.id === told.active),
    );
    if (this.#active === told.active) return;
    this.#active = told.active;
    this.node.querySelector('[aria-pressed="true"]')?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} id */
  #row(id) {
    const { actions, kernel, state } = this.page;
    const main = element("button", "samjax-object", { type: "button", "data-object": id }, [
      element("i", "samjax-swatch"),
      element("span"),
      element("small"),
    ]);
    main.addEventListener("click", (event) => {
      if (event.shiftKey || event.ctrlKey || event.metaKey) actions.toggle(id);
      else if (id === state.told?.active) kernel.send("new_object");
      else actions.select(id);
    });
    const hides = eye(`Hide or show object ${id}`, () => actions.toggleShown(state.hidden, id));
    return element("div", "samjax-row", {}, [main, hides]);
  }

  /**
   * @param {HTMLElement} row
   * @param {ObjectEntry} each
   * @param {boolean} active
   */
  #update(row, each, active) {
    const { state } = this.page;
    const { id, label, done: committed, score } = each;
    const [selected, hidden] = [state.selected.has(id), !state.shows(each)];
    const colour = state.colourOf(each);
    const key = [
      active,
      label,
      committed,
      score,
      selected,
      hidden,
      state.hidden.has(id),
      colour,
    ].join("|");
    if (this.#shown.get(row) === key) return;
    this.#shown.set(row, key);
    const [main, hides] = row.children;
    main.setAttribute("aria-pressed", String(active));
    main.setAttribute("data-committed", String(committed));
    main.setAttribute(
      "title",
      `${committed ? "done" : each.opened ? "to be reviewed" : "in work"}; with Shift select several`,
    );
    row.dataset.selected = String(selected);
    row.dataset.hidden = String(hidden);
    row.style.setProperty("--sj-colour", `rgb(${colour})`);
    const [, name, iou] = main.children;
    setText(name, `${id}  ${label}`);
    setText(iou, score === null ? "" : score.toFixed(2));
    setEye(hides, state.hidden.has(id));
  }
}
