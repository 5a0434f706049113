/* The toolbar: buttons of the commands, and the way through the images. */

/** @import { Page } from "./page.js" */
import { COMMANDS, command } from "./commands.js";
import { element, setText } from "./elements.js";
import { icon } from "./icons.js";
import { shownKeys } from "./keys.js";

const GROUPS = /** @type {const} */ (["tools", "history", "object", "show", "more"]);

export class Toolbar {
  /** @type {Map<string, HTMLButtonElement>} */
  #buttons = new Map();

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    this.name = element("b");
    this.progress = element("small");
    this.title = element("button", "samjax-title", { type: "button" }, [this.name, this.progress]);
    this.title.addEventListener("click", () => this.page.act("images"));
    this.ahead = element("span", "samjax-ahead", { "aria-hidden": "true" });
    const next = this.button("next-image");
    next.append(this.ahead);
    this.node = element("div", "samjax-bar", { role: "toolbar", "aria-label": "Annotation" }, [
      element("div", "samjax-group samjax-images", {}, [
        this.button("previous-image"),
        this.title,
        next,
        this.button("images"),
      ]),
      ...GROUPS.map((group) => {
        const shown = COMMANDS.filter((each) => each.group === group);
        return element(
          "div",
          "samjax-group",
          {},
          shown.map((each) => this.button(each.id)),
        );
      }),
    ]);
  }

  /** @param {string} id */
  button(id) {
    const { title, keys, shown } = command(id);
    const made = element("button", "samjax-button", {
      type: "button",
      "data-action": id,
      title: `${title} (${shownKeys({ keys, shown })})`,
      "aria-label": title,
    });
    made.innerHTML = icon(id);
    made.addEventListener("click", () => this.page.act(id));
    this.#buttons.set(id, made);
    return made;
  }

  refresh() {
    const { page } = this;
    const { told } = page.state;
    for (const [id, button] of this.#buttons) {
      const { pressed, enabled } = command(id);
      if (pressed) button.setAttribute("aria-pressed", String(pressed(page)));
      if (enabled && told) button.disabled = !enabled(page);
    }
    if (!told) return;
    const { index, count, name, next, done } = told.image;
    setText(this.name, name);
    setText(this.progress, `${index + 1} of ${count}, ${done} done`);
    this.title.title = `${name}: image ${index + 1} of ${count}, ${done} done. List of images (I)`;
    this.ahead.dataset.phase = next ?? "";
    const button = this.#buttons.get("next-image");
    if (button) button.title = `Next image (Page down)${next ? `: ${next}` : ""}`;
    this.#buttons.get("automatic")?.style.setProperty("--sj-done", String(told.automatic ?? 0));
  }
}
