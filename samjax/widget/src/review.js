/* The review of opened annotations: one object after the other, and how far it has come. */

/** @import { Page } from "./page.js" */
import { COMMANDS } from "./commands.js";
import { element, setText } from "./elements.js";

export class Review {
  /** Whether the view follows the object to review. */
  on = false;
  #text = element("span", "samjax-reviewtext");
  #shown = ""; // the object that the view was moved to

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    const commands = COMMANDS.filter((each) => each.group === "review");
    this.node = element(
      "div",
      "samjax-review",
      { role: "group", "aria-label": "Review", hidden: "" },
      [...commands.map((each) => page.toolbar.button(each.id)), this.#text],
    );
  }

  /** Begin with the most doubtful object, or show the whole image again. */
  toggle() {
    const { state, kernel, view } = this.page;
    this.on = !this.on;
    this.#shown = "";
    if (!this.on) view.fitted = true;
    else if (!state.active?.opened || state.active.done) kernel.send("next_review");
  }

  refresh() {
    const told = this.page.state.told;
    this.node.hidden = !told?.review;
    if (!told?.review) return;
    const { here, all } = told.review;
    const [done, total] = all;
    const more = told.image.count > 1 && here[1] ? `, ${here.join(" of ")} in this image` : "";
    setText(this.#text, `${done} of ${total} reviewed${more}`);
    this.node.dataset.done = String(done === total);
    if (this.on) this.#follow();
  }

  /** Move the view to the active object when it is another one. */
  #follow() {
    const { state, view, stage, painter } = this.page;
    const { active, image, told } = state;
    const held = active && state.masks.get(active.id)?.mask;
    if (!image || !active?.opened || !held?.box) return;
    const key = `${told?.image.index}/${active.id}`;
    if (key === this.#shown) return;
    this.#shown = key;
    painter.paintNow(); // a new image is fitted first
    const [x, y] = [image.width / held.width, image.height / held.height];
    const [left, top, right, bottom] = held.box;
    view.frame([left * x, top * y, right * x, bottom * y], stage.clientWidth, stage.clientHeight);
    painter.paint();
  }
}
