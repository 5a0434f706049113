/* The page of samjax.Annotator: its parts put together. */

/**
 * @import { Command } from "./commands.js"
 * @import { Level, Point, WidgetModel } from "./types"
 */
import { Actions } from "./actions.js";
import { AutomaticMasks } from "./automatic.js";
import { CandidatePanel } from "./candidates.js";
import { COMMANDS, command } from "./commands.js";
import { OutlineEditor } from "./editor.js";
import { element, setText, slider, themeBehind } from "./elements.js";
import { ExportDialog } from "./export.js";
import { helpPanel } from "./help.js";
import { Hover } from "./hover.js";
import { ImageList } from "./images.js";
import { Kernel } from "./kernel.js";
import { isTextField, Keyboard } from "./keyboard.js";
import { PageDecoder } from "./page_decoder.js";
import { Painter } from "./painter.js";
import { ClassPanel, ObjectPanel } from "./panels.js";
import { Pointer } from "./pointer.js";
import { Review } from "./review.js";
import { PageState } from "./state.js";
import { Toolbar } from "./toolbar.js";
import { View } from "./view.js";

/** @type {Record<string, string>} */
const VEIL = {
  loading: "Reading the image",
  encoding: "Encoding the image: clicks are kept",
  error: "This image cannot be shown",
  disconnected:
    "No answer from the kernel: it is busy or stopped. Click here, or run the cell again.",
};

/**
 * @param {string} className
 * @param {string} title
 * @param {Node[]} parts
 */
function section(className, title, parts) {
  const heading = element("h4", "", {}, [title]);
  return element("section", `samjax-section ${className}`, {}, [heading, ...parts]);
}

export class Page {
  state = new PageState();
  view = new View();
  canvas = element("canvas", "samjax-canvas", {
    tabindex: "0",
    role: "application",
    "aria-label": "Image: click on an object; press ? for the keys",
  });
  veil = element("div", "samjax-veil");
  status = element("span", "samjax-status");
  notice = element("span", "samjax-notice", { role: "status" });
  zoomText = element("span", "samjax-zoom");
  root = element("div", "samjax-annotator", {
    "data-state": "loading",
    "data-decoded": "0",
    "data-image": "",
    "data-objects": "0",
    "data-active": "",
    "data-hover": "0",
    "data-hover-sent": "0",
    "data-automatic": "",
    "data-lm-suppress-shortcuts": "true",
    "data-jp-suppress-context-menu": "",
  });

  /**
   * @param {WidgetModel} model
   * @param {Element} el where the host wants the widget
   */
  constructor(model, el) {
    this.model = model;
    this.actions = new Actions(this);
    this.hover = new Hover(this);
    this.decoder = new PageDecoder(this);
    this.automatic = new AutomaticMasks(this);
    this.editor = new OutlineEditor(this);
    this.images = new ImageList(this);
    this.exporter = new ExportDialog(this);
    this.toolbar = new Toolbar(this);
    this.review = new Review(this);
    this.candidates = new CandidatePanel(this);
    this.classes = new ClassPanel(this);
    this.objects = new ObjectPanel(this);
    this.help = helpPanel(this);
    this.stage = element("div", "samjax-stage", {}, [
      this.canvas,
      this.veil,
      this.images.node,
      this.automatic.node,
      this.exporter.node,
      this.help,
    ]);
    this.#build(el);
    this.painter = new Painter(this);
    this.pointer = new Pointer(this);
    this.keyboard = new Keyboard(this);
    this.kernel = new Kernel(this);
    this.#listen();
    this.#theme();
    this.kernel.send("hello");
    this.decoder.begin();
  }

  /** @param {Element} el */
  #build(el) {
    this.root.style.setProperty("--sj-height", `${this.model.get("height") ?? 560}px`);
    const line = element("div", "samjax-line", { "aria-live": "polite", role: "status" }, [
      element("span", "samjax-lamp"),
      this.status,
    ]);
    this.root.append(
      this.toolbar.node,
      this.automatic.field,
      this.review.node,
      element("div", "samjax-body", {}, [this.stage, this.#side()]),
      element("div", "samjax-foot", {}, [line, this.notice, this.zoomText]),
    );
    el.append(this.root);
    Object.assign(this.root, { samjaxPage: this }); // for tests, and for the browser's console
  }

  #side() {
    const { state } = this;
    const paint = () => this.painter.paint();
    const threshold = { min: -8, max: 8, step: 0.25, value: 0 };
    this.threshold = slider("samjax-threshold", "Threshold", threshold, (value) =>
      this.actions.slide(value),
    );
    const opacity = { min: 0, max: 1, step: 0.05, value: state.opacity };
    const opacitySlider = slider("samjax-opacity", "Opacity", opacity, (value) => {
      state.opacity = value;
      paint();
    });
    const radius = { min: 2, max: 80, step: 1, value: state.radius };
    this.radius = slider("samjax-radius", "Brush", radius, (value) => {
      state.radius = value;
      paint();
    });
    const range = { min: 0.3, max: 3, step: 0.05, value: 1 };
    const brightness = slider("samjax-brightness", "Brightness", range, (value) => {
      state.brightness = value;
      paint();
    });
    const contrast = slider("samjax-contrast", "Contrast", range, (value) => {
      state.contrast = value;
      paint();
    });
    const edits = COMMANDS.filter((each) => each.group === "edit");
    this.object = section("samjax-objectpanel", "Object", [
      element(
        "div",
        "samjax-edits",
        {},
        edits.map((each) => this.toolbar.button(each.id)),
      ),
      this.radius.row,
      this.threshold.row,
      element("p", "samjax-note", {}, ["Changes the mask that is saved."]),
    ]);
    return element("aside", "samjax-side", {}, [
      section("", "Masks", [this.candidates.node]),
      section("", "Class", [this.classes.node]),
      section("samjax-grows", "Objects", [this.objects.node]),
      this.object,
      element("details", "samjax-section samjax-display", {}, [
        element("summary", "", {}, ["Display"]),
        ...[opacitySlider.row, brightness.row, contrast.row],
      ]),
    ]);
  }

  #theme() {
    const outer = this.root.parentElement;
    if (outer) this.root.dataset.theme = themeBehind(outer);
    this.painter.spoil();
  }

  /** Give the canvas the focus, where all keys work; nothing scrolls. */
  focus() {
    this.canvas.focus({ preventScroll: true });
  }

  /** Give the canvas the focus, unless a command has just opened a field to type in. */
  focusUnlessField() {
    const { activeElement } = /** @type {Document | ShadowRoot} */ (this.root.getRootNode());
    const typing = activeElement && this.root.contains(activeElement) && isTextField(activeElement);
    if (!typing) this.focus();
  }

  /** Bring everything but the canvas in line with the state. */
  refresh() {
    const { state, root, veil } = this;
    const { told } = state;
    const name = state.name(this.kernel.busy);
    const choosing = this.automatic.choosing;
    root.dataset.state = name;
    veil.hidden = !(name in VEIL);
    veil.textContent = VEIL[name] ?? "";
    this.canvas.dataset.mode = choosing ? "pick" : state.mode;
    root.dataset.automatic = choosing ? String(choosing.runs.length) : "";
    this.toolbar.refresh();
    this.automatic.refresh();
    if (!told) return;
    root.dataset.image = String(told.image.index);
    root.dataset.objects = String(told.objects.length);
    root.dataset.active = told.active === null ? "" : String(told.active);
    this.say(told.status.text, told.status.level);
    // An answer to an earlier position must not move the slider back under the person's keys.
    if (!this.actions.sliding) this.threshold?.set(told.threshold);
    this.images.refresh();
    this.classes.refresh();
    this.objects.refresh();
    this.candidates.refresh();
    this.review.refresh();
    this.decoder.follow();
  }

  /**
   * Show a line of text; a screen reader reads every change, so the same line is not set twice.
   * @param {string} text
   * @param {Level} [level]
   */
  say(text, level = "info") {
    setText(this.status, text);
    this.root.dataset.level = level;
    this.status.title = text;
  }

  /**
   * Do the command of that name, as its button does.
   * @param {string} id
   */
  act(id) {
    this.run(command(id), "");
  }

  /**
   * @param {Command} command
   * @param {string} key that asked for it
   */
  run(command, key) {
    if (command.enabled?.(this) ?? true) command.run(this, key);
    this.refresh();
    this.painter.paint();
  }

  /** Leave what was begun. */
  escape() {
    const { state } = this;
    this.help.hidden = true;
    this.automatic.picking = false;
    if (!this.images.node.hidden) this.images.toggle();
    if (!this.exporter.node.hidden) this.exporter.toggle();
    state.selected.clear();
    state.drag = state.corner = state.cursor = state.preview = null;
  }

  /** @param {number} radius of the brush, CSS pixels */
  setRadius(radius) {
    this.state.radius = Math.min(80, Math.max(2, radius));
    this.radius?.set(this.state.radius);
  }

  /**
   * @param {number} factor
   * @param {Point} css
   */
  zoom(factor, css) {
    const { image } = this.state;
    if (!image) return;
    this.view.zoom(factor, css, Math.min(1, 40 / Math.max(image.width, image.height)));
    this.painter.paint();
  }

  #listen() {
    // JupyterLab looks for this from the focus upwards, until a shortcut fits: "d, d" in a list
    // of choices would delete the cell.
    this.root.addEventListener("focusin", ({ target }) => {
      if (target instanceof Element) target.setAttribute("data-lm-suppress-shortcuts", "true");
    });
    this.veil.addEventListener("click", () => {
      if (this.state.gone) this.kernel.send("hello");
    });
    this.root.addEventListener("click", (event) => {
      const { target } = event;
      if (!(target instanceof Element) || !target.closest("button, .samjax-help")) return;
      this.focusUnlessField();
    });
    this.root.addEventListener("contextmenu", (event) => {
      if (event.target instanceof Element && event.target.matches("input")) return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.sizes = new ResizeObserver(() => {
      this.#theme(); // not before: only now the element is in the page
      this.painter.paintNow();
    });
    this.sizes.observe(this.stage);
    this.themes = new MutationObserver(() => {
      this.#theme();
      this.painter.paint();
    });
    const attributeFilter = ["class", "style", "data-theme", "data-jp-theme-light"];
    for (const node of [document.documentElement, document.body]) {
      this.themes.observe(node, { attributes: true, attributeFilter });
    }
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.onScheme = () => this.#theme();
    this.scheme.addEventListener("change", this.onScheme);
  }

  close() {
    this.kernel.close();
    this.decoder.close();
    this.pointer.close();
    this.keyboard.close();
    this.images.close();
    this.painter.close();
    this.sizes?.disconnect();
    this.themes?.disconnect();
    if (this.onScheme) this.scheme?.removeEventListener("change", this.onScheme);
    this.root.remove();
  }
}
