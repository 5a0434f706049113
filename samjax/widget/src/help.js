/* The panel of help, and the table of the documentation: both from the table of commands. */

/** @import { Page } from "./page.js" */
import { COMMANDS, GESTURES } from "./commands.js";
import { element } from "./elements.js";
import { shownKeys } from "./keys.js";

/** Return [keys, what they do] for all gestures and commands. */
export function helpRows() {
  return [
    ...GESTURES.map(({ shown, title }) => [shown, title]),
    ...COMMANDS.map((each) => [shownKeys(each), each.title]),
  ];
}

/** Return the table of the documentation, in Markdown. */
export function helpTable() {
  const rows = helpRows().map(([keys, what]) => `| ${keys} | ${what} |`);
  return ["| keys or pointer | what it does |", "|---|---|", ...rows, ""].join("\n");
}

/**
 * Make the panel of help.
 * @param {Page} page
 */
export function helpPanel(page) {
  const list = element("dl");
  for (const [keys, what] of helpRows()) {
    list.append(
      element("div", "", {}, [element("dt", "", {}, [keys]), element("dd", "", {}, [what])]),
    );
  }
  const attributes = { role: "dialog", "aria-label": "Keys", tabindex: "0", hidden: "" };
  const panel = element("div", "samjax-help", attributes, [list]);
  panel.addEventListener("click", () => page.act("help"));
  return panel;
}
