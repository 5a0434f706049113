/* The dialog that exports: format, server path or browser download, and unfinished objects. */

/**
 * @import { Page } from "./page.js"
 * @import { DownloadMessage } from "./types"
 */
import { element, setText } from "./elements.js";

const FORMATS = [
  { kind: "coco", title: "COCO (one JSON file)", file: "annotations.json" },
  { kind: "yolo", title: "YOLO (a folder)", file: "yolo" },
  { kind: "png", title: "PNG label maps (a folder)", file: "label_maps" },
  { kind: "npz", title: "NPZ run lengths (a folder)", file: "npz" },
];

export class ExportDialog {
  #format = element(
    "select",
    "samjax-only",
    { "aria-label": "Format" },
    FORMATS.map(({ kind, title }) => element("option", "", { value: kind }, [title])),
  );
  #server = element("input", "", { type: "radio", name: "samjax-where", checked: "" });
  #browser = element("input", "", { type: "radio", name: "samjax-where" });
  #path = element("input", "samjax-filter", {
    type: "text",
    "aria-label": "Path on the server",
    spellcheck: "false",
  });
  #unfinished = element("input", "", { type: "checkbox" });
  #count = element("span");
  #reviewed = element("input", "", { type: "checkbox" });
  #review = element("label", "", {}, [this.#reviewed, "Only those that were reviewed"]);
  node = element(
    "form",
    "samjax-export",
    { role: "dialog", "aria-modal": "true", "aria-label": "Export", hidden: "" },
    [
      element("h3", "", {}, ["Export"]),
      element("label", "", {}, [element("span", "", {}, ["Format"]), this.#format]),
      element("label", "", {}, [this.#server, "Save where the kernel runs, as"]),
      this.#path,
      element("label", "", {}, [this.#browser, "Download in the browser"]),
      element("label", "", {}, [this.#unfinished, this.#count]),
      this.#review,
      element("div", "samjax-exportbuttons", {}, [
        this.#button("Cancel", "button", () => this.toggle()),
        this.#button("Export", "submit"),
      ]),
    ],
  );

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    // Two annotators on a page are two groups of radio buttons: each form is its own.
    this.#format.addEventListener("change", () => this.#propose());
    this.#path.addEventListener("input", () => {
      this.#server.checked = true;
    });
    // JupyterLab keeps Enter from submitting the form.
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      if (event.target instanceof HTMLButtonElement) return;
      event.preventDefault();
      this.#submit();
    });
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /**
   * @param {string} text
   * @param {"button" | "submit"} type
   * @param {() => void} [act]
   */
  #button(text, type, act) {
    const made = element("button", "samjax-wide", { type }, [text]);
    if (act) made.addEventListener("click", act);
    return made;
  }

  /** Propose a path for the format. */
  #propose() {
    const folder = this.page.state.told?.export_folder ?? "";
    const file = FORMATS.find(({ kind }) => kind === this.#format.value)?.file ?? "";
    this.#path.value = folder ? `${folder}/${file}` : file;
  }

  toggle() {
    this.node.hidden = !this.node.hidden;
    if (this.node.hidden) {
      this.page.focus();
      return;
    }
    const open = this.page.state.told?.objects.filter((each) => !each.committed).length ?? 0;
    setText(this.#count, `With unfinished objects (${open} in this image)`);
    this.#review.hidden = !this.page.state.told?.review;
    this.#propose();
    this.#format.focus({ preventScroll: true });
  }

  #submit() {
    const content = {
      format: this.#format.value,
      unfinished: this.#unfinished.checked,
      reviewed: this.#reviewed.checked,
    };
    const path = this.#path.value.trim();
    if (this.#browser.checked) this.page.kernel.send("download", content);
    else if (path) this.page.kernel.send("export", { ...content, path });
    else return;
    this.toggle();
  }

  /**
   * Hand a file to the browser.
   * @param {DownloadMessage} message
   * @param {DataView} buffer
   */
  receive({ name }, buffer) {
    const file = new Blob([/** @type {DataView<ArrayBuffer>} */ (buffer)]);
    const address = URL.createObjectURL(file);
    const link = element("a", "", { href: address, download: name });
    this.node.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}
