/* The page of samjax.Annotator: a canvas, a toolbar, and messages to and from the kernel.
 *
 * The kernel holds the truth: this page sends what the user does and paints what comes back.
 * Pixel coordinates are the network's: whole numbers are pixel centres. Sections: masks, drawing
 * of icons, the view, painting, panels, pointer, keyboard, messages, render.
 */

// ------------------------------------------------------------------------------- masks

/** The run lengths of a mask (zeros first, along the rows) out of a message's buffer. */
export function readRuns(buffer) {
  const { buffer: bytes, byteOffset, byteLength } = ArrayBuffer.isView(buffer)
    ? buffer
    : new Uint8Array(buffer);
  return new Uint32Array(bytes.slice(byteOffset, byteOffset + byteLength));
}

/** For each row the sorted columns where the mask begins and ends: [begin, end, begin, ...]. */
export function rowEdges(runs, width, height) {
  const rows = Array.from({ length: height }, () => []);
  let position = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = position + runs[i];
    if (i % 2) {
      for (let at = position; at < end; ) {
        const row = Math.floor(at / width);
        const stop = Math.min(end, (row + 1) * width);
        rows[row].push(at - row * width, stop - row * width);
        at = stop;
      }
    }
    position = end;
  }
  return rows;
}

/** [left, top, right, bottom] of what rowEdges gave, right and bottom exclusive; null if empty. */
export function bounds(rows) {
  let box = null;
  rows.forEach((edges, y) => {
    if (!edges.length) return;
    const last = edges[edges.length - 1];
    box = box
      ? [Math.min(box[0], edges[0]), box[1], Math.max(box[2], last), y + 1]
      : [edges[0], y, last, y + 1];
  });
  return box;
}

/** Columns that begin or end a run in just one of two rows: the edges between them. */
export function exclusive(above, below) {
  const found = [];
  let i = 0;
  let j = 0;
  while (i < above.length || j < below.length) {
    const a = i < above.length ? above[i] : Infinity;
    const b = j < below.length ? below[j] : Infinity;
    if (a !== b) found.push(Math.min(a, b));
    if (a <= b) i++;
    if (b <= a) j++;
  }
  return found;
}

/** The outline along the pixels' edges, long straight pieces first joined. */
function outlinePath(rows) {
  const path = new Path2D();
  const open = new Map(); // column -> row where its vertical edge began
  let above = [];
  for (let y = 0; y <= rows.length; y++) {
    const here = rows[y] ?? [];
    if (!here.length && !above.length) continue;
    const across = exclusive(above, here);
    for (let i = 0; i < across.length; i += 2) {
      path.moveTo(across[i], y);
      path.lineTo(across[i + 1], y);
    }
    const now = new Set(here);
    for (const [x, from] of open) {
      if (now.has(x)) continue;
      path.moveTo(x, from);
      path.lineTo(x, y);
      open.delete(x);
    }
    for (const x of here) if (!open.has(x)) open.set(x, y);
    above = here;
  }
  return path;
}

/** A mask ready to be painted: its filled pixels, cropped, and its outline. */
export class Mask {
  constructor(runs, width, height) {
    this.rows = rowEdges(runs, width, height);
    this.box = bounds(this.rows);
    this.width = width;
    this.height = height;
  }

  get outline() {
    this._outline ??= outlinePath(this.rows);
    return this._outline;
  }

  /** The pixels in one colour, [r, g, b], as a canvas of the size of `box`. */
  fill(colour) {
    const key = colour.join();
    if (this._key === key) return this._fill;
    const [left, top, right, bottom] = this.box;
    const canvas = document.createElement("canvas");
    canvas.width = right - left;
    canvas.height = bottom - top;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const words = new Uint32Array(image.data.buffer);
    const word = new Uint32Array(new Uint8Array([...colour, 255]).buffer)[0];
    for (let y = top; y < bottom; y++) {
      const edges = this.rows[y];
      const start = (y - top) * canvas.width - left;
      for (let i = 0; i < edges.length; i += 2) words.fill(word, start + edges[i], start + edges[i + 1]);
    }
    context.putImageData(image, 0, 0);
    this._key = key;
    this._fill = canvas;
    return canvas;
  }
}

/** For each pixel the number (1, 2, ...) of the smallest automatic mask it lies in, or 0. */
export function idMap(allRuns, areas, width, height) {
  const map = new Uint16Array(width * height);
  const order = areas.map((_, i) => i).sort((a, b) => areas[b] - areas[a]);
  for (const i of order) {
    let position = 0;
    allRuns[i].forEach((run, k) => {
      if (k % 2) map.fill(i + 1, position, position + run);
      position += run;
    });
  }
  return map;
}

// ------------------------------------------------------------------------------- icons

const ICONS = {
  "previous-image": "M15 5l-7 7 7 7",
  "next-image": "M9 5l7 7-7 7",
  "mode-point": "M12 3v5M12 16v5M3 12h5M16 12h5M12 12h.01",
  "mode-box": "M4 6h16v12H4zM4 6h.01M20 6h.01M20 18h.01M4 18h.01",
  "mode-brush": "M20 4L10 14M8 13.5c-2 0-3.2 1.4-3.2 3.3 0 1.2-.8 2-1.8 2.4 1 .6 2.2.8 3.2.8 2.4 0 4.3-1.5 4.3-3.7z",
  "mode-erase": "M8 19l-4-4a1.5 1.5 0 010-2l8.500-8.500a1.500 1.500 0 012 0L19.500 9.500a1.500 1.500 0 010 2L12 19zM9 9l6 6M8 19h12",
  sign: "M6 8h6M9 5v6M13 17h6M18 5L6 19",
  undo: "M8 5L4 9l4 4M4 9h10a5.500 5.500 0 010 11h-4",
  redo: "M16 5l4 4-4 4M20 9H10a5.500 5.500 0 000 11h4",
  new: "M12 5v14M5 12h14",
  commit: "M5 13l4.500 4.500L19 7",
  delete: "M5 7h14M10 7V4.500h4V7M7 7l1 12.500h8L17 7M10.500 11v5M13.500 11v5",
  automatic: "M12 3.500l1.800 5.200L19 10.500l-5.200 1.800L12 17.500l-1.800-5.200L5 10.500l5.200-1.800zM19 16v4M17 18h4",
  multimask: "M12 4l8 4.500-8 4.500-8-4.500zM4 12.500l8 4.500 8-4.500M4 16.500L12 21l8-4.500",
  outline: "M12 4c5 0 8 2.500 8 7s-2.500 9-8 9-8-3-8-8 3-8 8-8z",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  export: "M12 4v11M7.500 10.500L12 15l4.500-4.500M5 19.500h14",
  help: "M9 9a3 3 0 114.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 17.500h.01",
};

function icon(name) {
  return `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
}

// Groups of the toolbar: action, what it does, its key
const TOOLBAR = [
  [
    ["mode-point", "Point: click on the object, right-click beside it, drag a box", "V"],
    ["mode-box", "Box: drag around the object", "B"],
    ["mode-brush", "Brush: paint onto the mask", "G"],
    ["mode-erase", "Eraser: paint off the mask", "E"],
    ["sign", "Next clicks are negative", "T"],
  ],
  [
    ["undo", "Undo", "Z"],
    ["redo", "Redo", "Shift Z"],
  ],
  [
    ["commit", "Done with this object", "Enter"],
    ["new", "New object", "Shift N"],
    ["delete", "Delete object", "Del"],
  ],
  [
    ["automatic", "Automatic masks to pick from", "A"],
    ["multimask", "Three candidates to choose from", "3"],
    ["outline", "Outlines", "O"],
  ],
  [
    ["fit", "Fit the image", "F"],
    ["export", "Export all images as COCO", "X"],
    ["help", "Keys", "?"],
  ],
];

const HELP = [
  ["Point", "preview of a new object"],
  ["Click", "on the object"],
  ["Right-click, Shift-click, long press", "what is not part of it"],
  ["Drag", "a box"],
  ["Wheel or pinch", "zoom"],
  ["Space-drag or middle button", "move the image"],
  ["Arrows, Space, Shift Space", "cursor, click, negative click"],
  ["V  B  G  E", "point, box, brush, eraser"],
  ["[  ]", "size of the brush"],
  ["T", "next clicks positive or negative"],
  ["M", "next of the candidate masks"],
  ["Z, Shift Z", "undo, redo"],
  ["Enter or C", "done with this object"],
  ["Shift N, Delete", "new object, delete"],
  ["N, P", "next, previous object"],
  ["1 - 9", "class of the object"],
  ["A, Escape", "automatic masks, leave them"],
  ["O, F, +, -", "outlines, fit, zoom"],
  ["Page down, Page up", "next, previous image"],
];

function element(tag, className, attributes = {}, children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// ------------------------------------------------------------------------------- view

const CLICK_SLOP = 6; // CSS pixels that a click may move before it is a box
const LONG_PRESS = 550; // ms
const PATIENCE = 8000; // ms without an answer before the kernel counts as gone
const MAX_ZOOM = 40; // CSS pixels a pixel

/** Where the image lies on the canvas: css = (pixel + 0.5) * scale + (x, y). */
export class View {
  constructor() {
    Object.assign(this, { scale: 1, x: 0, y: 0, fitted: true });
  }

  fit(width, height, stageWidth, stageHeight) {
    const margin = Math.min(12, stageWidth / 20);
    this.scale = Math.min((stageWidth - 2 * margin) / width, (stageHeight - 2 * margin) / height);
    this.scale = Math.max(this.scale, 1e-3);
    this.x = (stageWidth - width * this.scale) / 2;
    this.y = (stageHeight - height * this.scale) / 2;
    this.fitted = true;
  }

  toCss(pixelX, pixelY) {
    return [(pixelX + 0.5) * this.scale + this.x, (pixelY + 0.5) * this.scale + this.y];
  }

  toPixel(cssX, cssY) {
    return [(cssX - this.x) / this.scale - 0.5, (cssY - this.y) / this.scale - 0.5];
  }

  zoom(factor, cssX, cssY, smallest) {
    const scale = Math.min(MAX_ZOOM, Math.max(smallest, this.scale * factor));
    this.x = cssX - ((cssX - this.x) * scale) / this.scale;
    this.y = cssY - ((cssY - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
  }

  /** Keep at least a part of the image on the stage. */
  hold(width, height, stageWidth, stageHeight) {
    const keep = 40;
    this.x = Math.min(stageWidth - keep, Math.max(keep - width * this.scale, this.x));
    this.y = Math.min(stageHeight - keep, Math.max(keep - height * this.scale, this.y));
  }
}

/** "light" or "dark": from the first ground behind the widget that is not transparent. */
function themeBehind(node) {
  for (let at = node; at; at = at.parentElement ?? at.getRootNode().host) {
    const parts = getComputedStyle(at).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
    if (parts.length >= 3 && (parts.length === 3 || parts[3] > 0.5)) {
      const [r, g, b] = parts;
      return 0.299 * r + 0.587 * g + 0.114 * b < 128 ? "dark" : "light";
    }
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// ------------------------------------------------------------------------------- the page

class Page {
  constructor(model, el) {
    this.model = model;
    this.view = new View();
    this.masks = new Map(); // object id -> {version, mask}
    this.pending = new Map(); // request -> time it was sent
    this.pointers = new Map(); // pointer id -> [x, y] on the canvas
    this.marks = []; // clicks, boxes and strokes that wait for their mask
    this.mode = "point";
    this.sign = 1;
    this.opacity = 0.45;
    this.outlines = true;
    this.radius = 14; // of the brush, CSS pixels
    this.hoverSent = 0;
    this.hoverShown = 0;
    this.requests = 0;
    this.name = Math.random().toString(36).slice(2, 8);
    this.build(el);
    this.listen();
    this.send("hello");
  }

  // ----------------------------------------------------------------------------- panels

  build(el) {
    this.root = element("div", "samjax-annotator", {
      "data-state": "loading",
      "data-decoded": "0",
      "data-image": "",
      "data-objects": "0",
      "data-active": "",
      "data-hover": "0",
      "data-hover-sent": "0",
      "data-proposals": "",
      "data-lm-suppress-shortcuts": "true",
      "data-jp-suppress-context-menu": "",
    });
    this.root.style.setProperty("--sj-height", `${this.model.get("height") ?? 560}px`);
    this.buttons = {};
    const bar = element("div", "samjax-bar", { role: "toolbar", "aria-label": "Annotation" });
    this.title = element("span", "samjax-title");
    this.ahead = element("span", "samjax-ahead", { "aria-hidden": "true" });
    const images = element("div", "samjax-group samjax-images", {}, [
      this.button("previous-image", "Previous image", "Page up"),
      this.title,
      this.button("next-image", "Next image", "Page down"),
    ]);
    this.buttons["next-image"].append(this.ahead);
    bar.append(images);
    for (const group of TOOLBAR) {
      bar.append(element("div", "samjax-group", {}, group.map((each) => this.button(...each))));
    }
    this.canvas = element("canvas", "samjax-canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Image: click on an object; press ? for the keys",
    });
    this.context = this.canvas.getContext("2d");
    this.base = document.createElement("canvas");
    this.veil = element("div", "samjax-veil");
    this.help = this.helpPanel();
    this.stage = element("div", "samjax-stage", {}, [this.canvas, this.veil, this.help]);
    this.body = element("div", "samjax-body", {}, [this.stage, this.sidePanel()]);
    this.status = element("span", "samjax-status");
    this.zoomText = element("span", "samjax-zoom");
    const line = element("div", "samjax-line", { "aria-live": "polite", role: "status" }, [
      element("span", "samjax-lamp"),
      this.status,
    ]);
    const foot = element("div", "samjax-foot", {}, [line, this.zoomText]);
    this.root.append(bar, this.body, foot);
    el.append(this.root);
    this.theme();
  }

  button(action, title, key = "") {
    const made = element("button", "samjax-button", {
      type: "button",
      "data-action": action,
      title: key ? `${title} (${key})` : title,
      "aria-label": title,
    });
    made.innerHTML = icon(action);
    made.addEventListener("click", () => this.act(action));
    this.buttons[action] = made;
    return made;
  }

  sidePanel() {
    this.candidates = element("div", "samjax-candidates", { role: "group", "aria-label": "Masks" });
    this.labels = element("div", "samjax-labels", { role: "group", "aria-label": "Classes" });
    this.objects = element("div", "samjax-objects", { role: "group", "aria-label": "Objects" });
    this.threshold = this.slider("samjax-threshold", "Threshold", -8, 8, 0.25, 0, (value) =>
      this.slide(value),
    );
    this.opacitySlider = this.slider("samjax-opacity", "Opacity", 0, 1, 0.05, this.opacity, (v) => {
      this.opacity = v;
      this.paint();
    });
    this.radiusSlider = this.slider("samjax-radius", "Brush", 2, 80, 1, this.radius, (value) => {
      this.radius = value;
      this.paint();
    });
    const section = (title, ...parts) =>
      element("section", "samjax-section", {}, [element("h4", "", {}, [title]), ...parts]);
    return element("aside", "samjax-side", {}, [
      section("Masks", this.candidates),
      section("Class", this.labels),
      section("Objects", this.objects),
      section("Display", this.threshold.row, this.opacitySlider.row, this.radiusSlider.row),
    ]);
  }

  slider(className, title, min, max, step, value, changed) {
    const input = element("input", className, { type: "range", min, max, step, "aria-label": title });
    input.value = value;
    const output = element("output", "", {}, [String(value)]);
    input.addEventListener("input", () => {
      output.textContent = input.value;
      changed(Number(input.value));
    });
    const row = element("label", "samjax-slider", {}, [element("span", "", {}, [title]), input, output]);
    const set = (next) => {
      if (input.matches(":active")) return; // never pull it out of the user's hand
      input.value = next;
      output.textContent = String(next);
    };
    return { row, input, set };
  }

  helpPanel() {
    const list = element("dl", "");
    for (const [keys, what] of HELP) {
      list.append(element("dt", "", {}, [keys]), element("dd", "", {}, [what]));
    }
    const panel = element("div", "samjax-help", { role: "dialog", "aria-label": "Keys", hidden: "" }, [
      list,
    ]);
    panel.addEventListener("click", () => this.act("help"));
    return panel;
  }

  theme() {
    const outer = this.root.parentElement;
    if (outer) this.root.dataset.theme = themeBehind(outer);
    this.stale = true;
  }

  // ----------------------------------------------------------------------------- state

  get image() {
    return this.picture && this.state && this.picture.index === this.state.image.index
      ? this.picture
      : null;
  }

  get active() {
    return this.state?.objects.find((each) => each.id === this.state.active) ?? null;
  }

  get usable() {
    return Boolean(this.image) && this.state.image.phase !== "error" && !this.gone;
  }

  get choosing() {
    return this.picking && this.proposals && this.proposals.index === this.image?.index;
  }

  stateName() {
    if (this.gone) return "disconnected";
    if (!this.state) return "loading";
    if (this.state.image.phase === "error") return "error";
    if (!this.image) return "loading";
    if (this.state.image.phase !== "ready") return "encoding";
    return this.pending.size ? "busy" : "ready";
  }

  /** Bring everything but the canvas in line with the state. */
  refresh() {
    const { state, root } = this;
    const name = this.stateName();
    root.dataset.state = name;
    this.veil.hidden = !["loading", "encoding", "error", "disconnected"].includes(name);
    this.veil.textContent = {
      loading: "Reading the image",
      encoding: "Encoding the image: clicks are kept",
      error: "This image cannot be shown",
      disconnected: "No answer from the kernel: it is busy or stopped. Click here, or run the cell again.",
    }[name];
    for (const mode of ["point", "box", "brush", "erase"]) {
      this.press(`mode-${mode}`, this.mode === mode && !this.choosing);
    }
    this.press("sign", this.sign === 0);
    this.press("outline", this.outlines);
    this.press("help", !this.help.hidden);
    this.press("automatic", Boolean(this.choosing));
    this.canvas.dataset.mode = this.choosing ? "pick" : this.mode;
    root.dataset.proposals = this.choosing ? String(this.proposals.runs.length) : "";
    if (!state) return;
    const { image, active } = state;
    root.dataset.image = String(image.index);
    root.dataset.objects = String(state.objects.length);
    root.dataset.active = active === null ? "" : String(active);
    this.title.textContent = image.count > 1 ? `${image.index + 1} / ${image.count}` : image.name;
    this.title.title = image.name;
    this.ahead.dataset.phase = image.next ?? "";
    this.buttons["next-image"].title = `Next image (Page down)${image.next ? `: ${image.next}` : ""}`;
    this.press("multimask", state.multimask);
    const off = {
      "previous-image": image.index === 0,
      "next-image": image.index === image.count - 1,
      undo: !state.undo,
      redo: !state.redo,
      commit: active === null,
      new: active === null,
      delete: active === null,
      automatic: !this.usable || state.automatic !== null,
    };
    for (const [action, value] of Object.entries(off)) this.buttons[action].disabled = value;
    this.buttons.automatic.style.setProperty("--sj-done", state.automatic ?? 0);
    this.say(state.status.text, state.status.level);
    this.threshold.set(state.threshold);
    this.showLabels();
    this.showObjects();
    this.showCandidates();
  }

  press(action, on) {
    this.buttons[action].setAttribute("aria-pressed", String(on));
  }

  say(text, level = "info") {
    // A screen reader reads every change: the same line is not written twice.
    if (this.status.textContent !== text) this.status.textContent = text;
    this.root.dataset.level = level;
    this.status.title = text;
  }

  showLabels() {
    const key = JSON.stringify([this.state.classes, this.state.label]);
    if (key === this.labelsKey) return;
    this.labelsKey = key;
    const chips = this.state.classes.map((name, i) => {
      const chip = element("button", "samjax-label", {
        type: "button",
        "data-label": name,
        "aria-pressed": String(name === this.state.label),
        title: i < 9 ? `${name} (${i + 1})` : name,
      });
      chip.textContent = name;
      chip.addEventListener("click", () => this.send("label", { name }));
      return chip;
    });
    const entry = element("input", "samjax-newlabel", {
      type: "text",
      placeholder: "new class",
      "aria-label": "Name of a new class",
      maxlength: "100",
    });
    entry.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && entry.value.trim()) this.send("label", { name: entry.value });
      if (event.key === "Enter" || event.key === "Escape") this.canvas.focus();
    });
    this.labels.replaceChildren(...chips, entry);
  }

  showObjects() {
    const { objects, active } = this.state;
    const key = JSON.stringify([objects.map((o) => [o.id, o.label, o.score, o.committed]), active]);
    if (key === this.objectsKey) return;
    this.objectsKey = key;
    const rows = objects.map((each) => {
      const row = element("button", "samjax-object", {
        type: "button",
        "data-object": each.id,
        "aria-pressed": String(each.id === active),
        title: each.committed ? "done" : "in work",
      });
      row.style.setProperty("--sj-colour", `rgb(${each.colour})`);
      row.dataset.committed = String(each.committed);
      row.append(
        element("i", "samjax-swatch"),
        element("span", "", {}, [`${each.id}  ${each.label}`]),
        element("small", "", {}, [each.score === null ? "" : each.score.toFixed(2)]),
      );
      row.addEventListener("click", () => {
        if (each.id === this.state.active) this.send("new_object");
        else this.send("select", { object_id: each.id });
      });
      return row;
    });
    const none = element("p", "samjax-none", {}, [
      "Click on an object. Right-click on what is not part of it. Drag a box.",
    ]);
    this.objects.replaceChildren(...(rows.length ? rows : [none]));
    this.objects.querySelector('[aria-pressed="true"]')?.scrollIntoView({ block: "nearest" });
  }

  /** The candidates: three places that are always there, so that nothing jumps. */
  showCandidates() {
    const told = this.state.candidates;
    const colour = this.active?.colour ?? [30, 144, 255];
    const key = told ? JSON.stringify([told.scores, told.rank, this.thumbnails?.key, colour]) : "";
    if (key === this.candidatesKey) return;
    this.candidatesKey = key;
    const count = Math.max(3, told?.scores.length ?? 0);
    const places = Array.from({ length: count }, (_, i) => {
      if (!told || i >= told.scores.length) return element("div", "samjax-place");
      const made = element("button", "samjax-candidate", {
        type: "button",
        "data-candidate": i,
        "aria-pressed": String(i === told.rank),
        "aria-label": `Mask ${i + 1} of ${told.scores.length}, IoU ${told.scores[i].toFixed(2)}`,
        title: "Take this mask (M)",
      });
      if (this.thumbnails) made.append(this.thumbnail(i, colour));
      made.append(element("small", "", {}, [told.scores[i].toFixed(2)]));
      made.addEventListener("click", () => this.send("choose", { index: i }));
      return made;
    });
    this.candidates.replaceChildren(...places);
  }

  thumbnail(i, colour) {
    const { masks, size, region } = this.thumbnails;
    const [height, width] = size;
    const canvas = element("canvas", "", { width, height, "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    const [left, top, right, bottom] = region;
    if (this.image) {
      context.drawImage(this.image.bitmap, left, top, right - left, bottom - top, 0, 0, width, height);
    }
    const mask = masks[i];
    if (mask.box) {
      context.globalAlpha = 0.6;
      context.drawImage(mask.fill(colour), mask.box[0], mask.box[1]);
      context.globalAlpha = 1;
      context.strokeStyle = `rgb(${colour})`;
      context.stroke(mask.outline);
    }
    return canvas;
  }

  // ----------------------------------------------------------------------------- painting

  /** Paint at the next frame. */
  paint() {
    this.frame ??= requestAnimationFrame(() => this.paintNow());
  }

  paintNow() {
    if (this.frame) cancelAnimationFrame(this.frame);
    this.frame = null;
    const { canvas, context, image, view } = this;
    const density = devicePixelRatio || 1;
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    if (!width || !height) return;
    const [w, h] = [Math.round(width * density), Math.round(height * density)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      this.stale = true;
    }
    if (image && (view.fitted || !this.placed)) {
      view.fit(image.width, image.height, width, height);
      this.placed = true;
    }
    if (image) view.hold(image.width, image.height, width, height);
    this.paintBase(w, h, density);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, w, h);
    context.drawImage(this.base, 0, 0);
    this.zoomText.textContent = "";
    if (image) {
      context.setTransform(density, 0, 0, density, 0, 0);
      this.paintMasks();
      this.paintPrompts();
      this.paintCursor();
      Object.assign(canvas.dataset, {
        imageWidth: image.width,
        imageHeight: image.height,
        scale: view.scale,
        offsetX: view.x + view.scale / 2,
        offsetY: view.y + view.scale / 2,
      });
      this.zoomText.textContent = `${image.width} x ${image.height}   ${Math.round(100 * view.scale)}%`;
      if (this.state.replies !== undefined) this.root.dataset.decoded = String(this.state.replies);
    }
  }

  /** The image and the objects that are not active: they stay as they are from click to click. */
  paintBase(w, h, density) {
    const { base, image, view } = this;
    const others = this.held().filter(({ each }) => each.id !== this.state.active);
    const opacity = this.opacity * (this.choosing ? 0.5 : 1);
    const drawn = others.map(({ each, version }) => [each.id, version, each.colour]);
    const place = [w, h, image?.index, view.scale, view.x, view.y];
    const key = [...place, this.root.dataset.theme, opacity, this.outlines, ...drawn].join();
    if (key === this.baseKey && !this.stale) return;
    this.baseKey = key;
    this.stale = false;
    base.width = w;
    base.height = h;
    if (!image) return;
    const context = base.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.imageSmoothingEnabled = view.scale * density < 3;
    context.imageSmoothingQuality = "high";
    const [width, height] = [image.width * view.scale, image.height * view.scale];
    context.shadowColor = "rgba(0, 0, 0, 0.22)";
    context.shadowBlur = 5 * density;
    context.fillStyle = "#808080";
    context.fillRect(view.x + 1, view.y + 1, width - 2, height - 2);
    context.shadowColor = "transparent";
    context.drawImage(image.bitmap, view.x, view.y, width, height);
    for (const { each, mask } of others) {
      this.paintMask(mask, each.colour, { context, opacity, width: 1.5 });
    }
  }

  /** Objects of this image whose mask is here. */
  held() {
    if (!this.image || !this.state) return [];
    return this.state.objects
      .map((each) => ({ each, ...this.masks.get(each.id) }))
      .filter(({ mask }) => mask);
  }

  paintMask(mask, colour, options = {}) {
    const { context = this.context, opacity = this.opacity, width = 2, dash } = options;
    const { outline = this.outlines } = options;
    if (!mask.box) return;
    const { image, view } = this;
    const [left, top, right, bottom] = mask.box;
    const scale = (image.width / mask.width) * view.scale;
    const scaleY = (image.height / mask.height) * view.scale;
    context.save();
    context.translate(view.x, view.y);
    context.imageSmoothingEnabled = scale < 1;
    context.globalAlpha = opacity;
    const fill = mask.fill(colour);
    if (opacity) {
      context.drawImage(fill, left * scale, top * scaleY, (right - left) * scale, (bottom - top) * scaleY);
    }
    if (outline) {
      context.scale(scale, scaleY);
      context.lineCap = "square"; // thousands of short pieces: round caps doubled a click's time
      context.globalAlpha = 0.55;
      context.strokeStyle = "#fff";
      context.lineWidth = (width + 1.5) / scale;
      context.stroke(mask.outline);
      context.globalAlpha = 1;
      context.strokeStyle = `rgb(${colour})`;
      context.lineWidth = width / scale;
      if (dash) context.setLineDash(dash.map((x) => x / scale));
      context.stroke(mask.outline);
    }
    context.restore();
  }

  paintMasks() {
    const { state, view, image } = this;
    if (this.choosing) {
      const { context, proposals } = this;
      context.save();
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 0.4;
      const size = [image.width * view.scale, image.height * view.scale];
      context.drawImage(proposals.canvas, view.x, view.y, ...size);
      context.restore();
      const chosen = this.proposalMask(this.pointed);
      if (chosen) this.paintMask(chosen, [255, 255, 255], { opacity: 0.35, outline: true });
    }
    const current = this.held().find(({ each }) => each.id === state.active);
    if (current) this.paintMask(current.mask, current.each.colour, { width: 2.5 });
    if (this.preview && !this.marks.length && !this.choosing) {
      this.paintMask(this.preview, [59, 130, 246], { opacity: 0.3, width: 1.5, outline: true });
    }
  }

  paintPrompts() {
    const marks = [...this.marks];
    const each = this.active;
    if (each && !this.choosing) {
      if (each.box) marks.push({ box: each.box });
      marks.push(...each.points.map(([x, y, label]) => ({ point: [x, y], label })));
    }
    if (this.drag?.box) marks.push({ box: this.drag.box });
    if (this.drag?.stroke) marks.push({ stroke: this.drag.stroke, radius: this.drag.radius, add: this.drag.add });
    for (const mark of marks) if (mark.stroke) this.paintStroke(mark);
    for (const mark of marks) if (mark.box) this.paintBox(mark.box);
    for (const mark of marks) if (mark.point) this.paintPoint(mark);
  }

  paintStroke({ stroke, radius, add }) {
    const { context, view } = this;
    const colour = this.active?.colour ?? [30, 144, 255];
    context.save();
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius * view.scale;
    context.strokeStyle = add ? `rgba(${colour}, 0.6)` : "rgba(15, 23, 42, 0.55)";
    context.beginPath();
    stroke.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](...view.toCss(x, y)));
    if (stroke.length === 1) context.lineTo(...view.toCss(...stroke[0]));
    context.stroke();
    context.restore();
  }

  paintBox([x0, y0, x1, y1]) {
    const { context, view } = this;
    const [left, top] = view.toCss(x0, y0);
    const [right, bottom] = view.toCss(x1, y1);
    context.save();
    context.lineWidth = 3.5;
    context.strokeStyle = "rgba(15, 23, 42, 0.5)";
    context.strokeRect(left, top, right - left, bottom - top);
    context.lineWidth = 1.5;
    context.strokeStyle = "#fff";
    context.setLineDash([7, 4]);
    context.strokeRect(left, top, right - left, bottom - top);
    context.restore();
  }

  /** Positive: a green disc with a plus; negative: a red diamond with a minus. */
  paintPoint({ point, label }) {
    const { context, view } = this;
    const [x, y] = view.toCss(...point);
    const shape = (size) => {
      context.beginPath();
      if (label) context.arc(x, y, size, 0, 2 * Math.PI);
      else {
        const s = size * 1.2;
        context.moveTo(x, y - s);
        context.lineTo(x + s, y);
        context.lineTo(x, y + s);
        context.lineTo(x - s, y);
        context.closePath();
      }
    };
    context.save();
    context.shadowColor = "rgba(0, 0, 0, 0.45)";
    context.shadowBlur = 4;
    context.fillStyle = "#fff";
    shape(8.5);
    context.fill();
    context.shadowColor = "transparent";
    context.fillStyle = label ? "#16a34a" : "#dc2626";
    shape(6.8);
    context.fill();
    context.strokeStyle = "#fff";
    context.lineWidth = 1.8;
    context.beginPath();
    context.moveTo(x - 3.2, y);
    context.lineTo(x + 3.2, y);
    if (label) {
      context.moveTo(x, y - 3.2);
      context.lineTo(x, y + 3.2);
    }
    context.stroke();
    context.restore();
  }

  paintCursor() {
    const { context, view } = this;
    const brush = this.mode === "brush" || this.mode === "erase";
    const at = this.cursor ? view.toCss(...this.cursor) : this.mouse;
    if (!at || this.choosing) return;
    if (!brush && !this.cursor) return;
    context.save();
    for (const [colour, width] of [["rgba(15, 23, 42, 0.6)", 3], ["#fff", 1.25]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      if (brush) context.arc(...at, this.radius, 0, 2 * Math.PI);
      if (this.cursor) {
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(at[0] + 4 * dx, at[1] + 4 * dy);
          context.lineTo(at[0] + 14 * dx, at[1] + 14 * dy);
        }
      }
      context.stroke();
    }
    context.restore();
  }

  // ----------------------------------------------------------------------------- actions

  act(action) {
    const state = this.state;
    if (action.startsWith("mode-")) {
      this.mode = action.slice(5);
      this.picking = false;
      this.preview = null;
    } else if (action === "sign") this.sign = 1 - this.sign;
    else if (action === "outline") this.outlines = !this.outlines;
    else if (action === "help") this.help.hidden = !this.help.hidden;
    else if (action === "fit") this.view.fitted = true;
    else if (action === "automatic") this.automatic();
    else if (state) {
      const sent = {
        undo: () => this.send("undo"),
        redo: () => this.send("redo"),
        commit: () => this.send("commit"),
        new: () => this.send("new_object"),
        delete: () => this.send("delete", { object_id: null }),
        multimask: () => this.send("set_multimask", { on: !state.multimask }),
        "next-image": () => this.send("next_image"),
        "previous-image": () => this.send("previous_image"),
        export: () => this.send("export"),
      }[action];
      if (!this.buttons[action].disabled) sent();
    }
    this.refresh();
    this.paint();
  }

  automatic() {
    if (this.choosing) this.picking = false;
    else if (this.proposals && this.proposals.index === this.image?.index) this.picking = true;
    else if (this.usable && this.state.automatic === null) {
      this.picking = true;
      this.send("automatic");
    }
  }

  slide(value) {
    if (!this.state) return;
    this.wanted = value;
    if (this.sliding) return; // one in flight, the last position wins
    this.sliding = this.send("set_threshold", { threshold: value });
  }

  /** A step of the selection through the list; past its end a new object. */
  walk(step) {
    const ids = this.state?.objects.map((each) => each.id) ?? [];
    if (!ids.length) return;
    const at = ids.indexOf(this.state.active);
    const next = at < 0 ? (step > 0 ? 0 : ids.length - 1) : at + step;
    if (next >= 0 && next < ids.length) this.send("select", { object_id: ids[next] });
    else this.send("new_object");
  }

  nextCandidate() {
    const told = this.state?.candidates;
    if (told) this.send("choose", { index: (told.rank + 1) % told.scores.length });
  }

  inside([x, y]) {
    const { width, height } = this.image;
    return x >= -0.5 && y >= -0.5 && x <= width - 0.5 && y <= height - 0.5;
  }

  /** The nearest whole pixel inside the image. */
  whole([x, y]) {
    const { width, height } = this.image;
    const within = (value, size) => Math.min(size - 1, Math.max(0, Math.round(value)));
    return [within(x, width), within(y, height)];
  }

  click(pixel, label) {
    if (!this.usable || !this.inside(pixel)) return;
    const [x, y] = this.whole(pixel);
    if (this.choosing) {
      const number = this.proposalAt(pixel);
      if (number) this.send("pick", { index: number - 1 });
      return;
    }
    this.mark({ point: [x, y], label });
    this.send("click", { x, y, label });
  }

  /** Show at once what was done; the answer replaces it. */
  mark(mark) {
    this.preview = null;
    this.marks.push(mark);
    this.paint();
  }

  sendBox([x0, y0, x1, y1]) {
    this.mark({ box: [x0, y0, x1, y1] });
    this.send("box", { x0, y0, x1, y1 });
  }

  sendStroke(points, radius, add) {
    if (!add && !this.active) {
      this.say("Nothing to erase from: select an object first", "error");
      return;
    }
    this.mark({ stroke: points, radius, add });
    this.send("brush", { points, radius, add });
  }

  proposalAt([x, y]) {
    const { size, map } = this.proposals;
    const column = Math.floor(((x + 0.5) * size[1]) / this.image.width);
    const row = Math.floor(((y + 0.5) * size[0]) / this.image.height);
    if (row < 0 || column < 0 || row >= size[0] || column >= size[1]) return 0;
    return map[row * size[1] + column];
  }

  proposalMask(number) {
    if (!number) return null;
    const { masks, runs, size } = this.proposals;
    masks[number - 1] ??= new Mask(runs[number - 1], size[1], size[0]);
    return masks[number - 1];
  }

  // ----------------------------------------------------------------------------- hover

  hover(pixel) {
    if (this.choosing) {
      const number = pixel && this.inside(pixel) ? this.proposalAt(pixel) : 0;
      if (number !== this.pointed) {
        this.pointed = number;
        if (number) this.say(`Automatic mask ${number}, IoU ${this.proposals.scores[number - 1].toFixed(2)}`);
        this.paint();
      }
      return;
    }
    const asks =
      pixel &&
      this.mode === "point" &&
      this.sign === 1 &&
      this.usable &&
      this.state.image.phase === "ready" &&
      this.state.active === null &&
      !this.marks.length &&
      this.inside(pixel);
    if (!asks) {
      this.hoverNext = null;
      if (this.preview) {
        this.preview = null;
        this.paint();
      }
      this.hoverWanted = false;
      return;
    }
    this.hoverWanted = true;
    this.hoverNext = this.whole(pixel);
    this.sendHover();
  }

  /** One in flight; of those that come meanwhile only the last is sent. */
  sendHover() {
    if (this.hoverRequest || !this.hoverNext) return;
    const [x, y] = this.hoverNext;
    this.hoverNext = null;
    const key = `${x},${y},${this.state.image.index}`;
    if (key === this.hoverKey && this.preview) return;
    this.hoverKey = key;
    this.hoverSent += 1;
    this.root.dataset.hoverSent = String(this.hoverSent);
    this.hoverRequest = `${this.name}-hover-${this.hoverSent}`;
    this.hoverTime = performance.now();
    this.post({ kind: "hover", request: this.hoverRequest, x, y });
  }

  onHover(message, buffers) {
    if (message.request !== this.hoverRequest) return;
    this.hoverRequest = null;
    this.hoverShown += 1;
    const shown = this.hoverWanted && message.index === this.image?.index && buffers.length;
    const [width, height] = this.image?.display ?? [1, 1];
    this.preview = shown ? new Mask(readRuns(buffers[0]), width, height) : null;
    this.paintNow();
    this.root.dataset.hover = String(this.hoverShown);
    this.sendHover();
  }

  // ----------------------------------------------------------------------------- pointer

  position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    this.cursor = null;
    const at = this.position(event);
    this.pointers.set(event.pointerId, at);
    this.canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
    if (this.pointers.size === 2) {
      this.drag = { kind: "pinch" };
      clearTimeout(this.press_);
      return;
    }
    if (this.pointers.size > 2 || !this.image) return;
    const pixel = this.view.toPixel(...at);
    if (event.button === 1 || this.space) {
      this.drag = { kind: "pan" };
      this.panned = true;
      return;
    }
    const negative = event.button === 2 || event.shiftKey || event.ctrlKey;
    const label = negative ? 0 : this.sign;
    if ((this.mode === "brush" || this.mode === "erase") && !this.choosing) {
      const add = (this.mode === "brush") !== negative;
      const radius = this.radius / this.view.scale;
      this.drag = { kind: "stroke", stroke: [this.fine(pixel)], radius, add };
      this.paint();
      return;
    }
    this.drag = { kind: "click", start: at, pixel, label, box: null };
    if (event.pointerType === "touch") {
      this.press_ = setTimeout(() => {
        if (this.drag?.kind !== "click" || this.drag.box) return;
        this.drag = null;
        navigator.vibrate?.(15);
        this.click(pixel, 0);
      }, LONG_PRESS);
    }
  }

  move(event) {
    const at = this.position(event);
    const before = this.pointers.get(event.pointerId);
    this.mouse = event.pointerType === "touch" ? null : at;
    if (!before) {
      this.cursor = null;
      this.hover(this.image ? this.view.toPixel(...at) : null);
      if (this.mode === "brush" || this.mode === "erase") this.paint();
      return;
    }
    const drag = this.drag;
    if (drag?.kind === "pinch") this.pinch(event.pointerId, at);
    this.pointers.set(event.pointerId, at);
    if (!drag || !this.image) return;
    if (drag.kind === "pan") {
      this.view.move(at[0] - before[0], at[1] - before[1]);
    } else if (drag.kind === "stroke") {
      const last = this.view.toCss(...drag.stroke[drag.stroke.length - 1]);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) < 2) return;
      drag.stroke.push(this.fine(this.view.toPixel(...at)));
    } else if (drag.kind === "click" && !this.choosing) {
      const far = Math.hypot(at[0] - drag.start[0], at[1] - drag.start[1]) > CLICK_SLOP;
      if (far) clearTimeout(this.press_);
      if (far || drag.box) {
        const [a, b] = [this.whole(drag.pixel), this.whole(this.view.toPixel(...at))];
        drag.box = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
      }
    }
    this.paint();
  }

  up(event, cancelled = false) {
    if (!this.pointers.delete(event.pointerId)) return;
    clearTimeout(this.press_);
    const drag = this.drag;
    if (drag?.kind === "pinch") {
      if (!this.pointers.size) this.drag = null;
      return;
    }
    this.drag = null;
    if (this.gone) this.send("hello");
    if (!drag || !this.usable || cancelled) {
      this.paint();
      return;
    }
    if (drag.kind === "stroke") this.sendStroke(drag.stroke, drag.radius, drag.add);
    else if (drag.kind === "click" && drag.box) this.sendBox(drag.box);
    else if (drag.kind === "click") {
      if (this.mode === "box" && !this.choosing) this.say("Drag from one corner of the box to the other");
      else this.click(drag.pixel, drag.label);
    }
    this.paint();
  }

  pinch(id, at) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, value]) => value);
    const before = this.pointers.get(id);
    const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    const middle = (p) => [(p[0] + other[0]) / 2, (p[1] + other[1]) / 2];
    const [from, to] = [middle(before), middle(at)];
    this.view.move(to[0] - from[0], to[1] - from[1]);
    this.zoom(distance(at) / distance(before), to);
  }

  zoom(factor, [x, y]) {
    if (!this.image) return;
    const smallest = Math.min(1, 40 / Math.max(this.image.width, this.image.height));
    this.view.zoom(factor, x, y, smallest);
    this.paint();
  }

  /** Strokes are finer than pixels, but not finer than can be seen. */
  fine([x, y]) {
    return [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
  }

  // ----------------------------------------------------------------------------- keyboard

  key(event) {
    if (event.ctrlKey && event.key.toLowerCase() === "z") {
      this.act(event.shiftKey ? "redo" : "undo");
    } else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (!this.keyAction(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Whether the key meant something. */
  keyAction(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onButton = event.target.closest?.("button");
    if (onButton && (key === "Enter" || key === " ")) return false; // it presses the button
    if (event.target.matches?.("input[type=range]") && key.startsWith("Arrow")) return false;
    const actions = {
      v: "mode-point",
      b: "mode-box",
      g: "mode-brush",
      e: "mode-erase",
      t: "sign",
      a: "automatic",
      o: "outline",
      f: "fit",
      x: "export",
      c: "commit",
      Enter: "commit",
      Delete: "delete",
      Backspace: "delete",
      PageDown: "next-image",
      PageUp: "previous-image",
      "?": "help",
    };
    const centre = [this.stage.clientWidth / 2, this.stage.clientHeight / 2];
    if (key === "z") this.act(event.shiftKey ? "redo" : "undo");
    else if (key === "n" && event.shiftKey) this.act("new");
    else if (key === "n") this.walk(1);
    else if (key === "p") this.walk(-1);
    else if (key === "m") this.nextCandidate();
    else if (/^[1-9]$/.test(key)) {
      const name = this.state?.classes[Number(key) - 1];
      if (name) this.send("label", { name });
    } else if (key === "[" || key === "]") {
      this.radius = Math.min(80, Math.max(2, this.radius + (key === "[" ? -2 : 2)));
      this.radiusSlider.set(this.radius);
    } else if (key === "+" || key === "=") this.zoom(1.25, centre);
    else if (key === "-" || key === "_") this.zoom(0.8, centre);
    else if (key === "Escape") this.escape();
    else if (key === " ") this.space = true;
    else if (key.startsWith("Arrow")) this.moveCursor(key, event.shiftKey);
    else if (actions[key]) this.act(actions[key]);
    else return false;
    this.refresh();
    this.paint();
    return true;
  }

  escape() {
    this.help.hidden = true;
    this.picking = false;
    this.drag = null;
    this.corner = null;
    this.cursor = null;
    this.preview = null;
  }

  moveCursor(key, fine) {
    if (!this.image) return;
    const step = fine ? 1 : Math.max(1, Math.round(10 / this.view.scale));
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const start = this.cursor ?? [this.image.width / 2, this.image.height / 2];
    this.cursor = this.whole([start[0] + dx * step, start[1] + dy * step]);
    if (this.corner) this.drag = { box: this.spanned() };
    this.canvas.setAttribute("aria-label", `Cursor at ${this.cursor.join(", ")}`);
    this.hover(this.cursor);
  }

  spanned() {
    const [a, b] = [this.corner, this.cursor];
    return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  }

  keyUp(event) {
    if (event.key !== " ") return;
    const pressed = this.space && !this.panned;
    this.space = this.panned = false;
    if (!pressed || !this.cursor || !this.usable) return;
    event.preventDefault();
    const label = event.shiftKey ? 0 : this.sign;
    if (this.choosing || this.mode === "point") this.click(this.cursor, label);
    else if (this.mode === "box" && !this.corner) this.corner = this.cursor;
    else if (this.mode === "box") {
      const box = this.spanned();
      this.corner = this.drag = null;
      this.sendBox(box);
    } else {
      this.sendStroke([this.cursor], this.radius / this.view.scale, (this.mode === "brush") === Boolean(label));
    }
  }

  // ----------------------------------------------------------------------------- messages

  send(kind, content = {}) {
    this.requests += 1;
    const request = `${this.name}-${this.requests}`;
    this.pending.set(request, performance.now());
    this.post({ kind, request, ...content });
    if (kind !== "hello") this.root.dataset.state = this.stateName();
    return request;
  }

  /** After a restart of the kernel the host refuses to send. */
  post(message) {
    try {
      this.model.send(message);
    } catch {
      this.lose();
    }
  }

  lose() {
    this.gone = true;
    this.pending.clear();
    this.hoverRequest = this.sliding = null;
    this.marks = [];
    this.preview = null;
    this.refresh();
    this.say(this.veil.textContent, "error");
    this.paint();
  }

  receive(message, buffers) {
    if (message.kind === "image") this.onImage(message, buffers[0]);
    else if (message.kind === "update") this.onUpdate(message, buffers);
    else if (message.kind === "proposals") this.onProposals(message, buffers[0]);
    else if (message.kind === "hover") this.onHover(message, buffers);
  }

  async onImage(message, buffer) {
    const [width, height] = message.display;
    this.incoming = message.index;
    this.masks.clear();
    const bitmap = await createImageBitmap(new Blob([buffer], { type: "image/jpeg" }));
    if (this.incoming !== message.index) return; // another one came while it was unpacked
    this.picture?.bitmap.close();
    this.picture = { ...message, display: [width, height], bitmap };
    this.placed = false;
    this.stale = true;
    this.preview = null;
    this.candidatesKey = null;
    this.unpack();
    this.refresh();
    this.paintNow();
  }

  onUpdate(message, buffers) {
    this.gone = false;
    this.pending.delete(message.request);
    const changed = this.state?.image.index !== message.image.index;
    if (changed) {
      this.marks = [];
      this.preview = this.pointed = this.drag = this.corner = this.cursor = null;
      this.picking = false;
      this.thumbnails = null;
    }
    this.state = message;
    message.masks.forEach(({ id, version }, i) => {
      this.masks.set(id, { version, runs: readRuns(buffers[i]) });
    });
    const alive = new Set(message.objects.map((each) => each.id));
    for (const id of this.masks.keys()) if (!alive.has(id)) this.masks.delete(id);
    const told = message.candidates;
    if (told?.fresh) {
      const small = buffers.slice(message.masks.length);
      const [height, width] = told.size;
      const masks = small.map((each) => new Mask(readRuns(each), width, height));
      this.thumbnails = { size: told.size, region: told.region, masks, key: message.replies + this.name };
    }
    const waiting = [...this.pending.keys()].length > 0;
    if (!waiting) this.marks = [];
    if (message.request === this.sliding) {
      this.sliding = null;
      if (this.wanted !== message.threshold && message.status.level !== "error") this.slide(this.wanted);
    }
    if (message.status.level === "error" && message.automatic === null && !this.proposals) this.picking = false;
    this.unpack();
    this.refresh();
    this.paintNow();
  }

  /** Masks become pictures when the size of the display is known. */
  unpack() {
    if (!this.image && !(this.incoming === this.state?.image.index)) return;
    const display = this.image?.display;
    if (!display) return;
    for (const held of this.masks.values()) {
      if (!held.mask) held.mask = new Mask(held.runs, ...display);
    }
  }

  onProposals(message, buffer) {
    const all = readRuns(buffer);
    const [height, width] = message.size;
    let start = 0;
    const runs = message.runs.map((count) => all.subarray(start, (start += count)));
    const map = idMap(runs, message.areas, width, height);
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    const words = new Uint32Array(picture.data.buffer);
    const palette = runs.map((_, i) => {
      const hue = (i * 137.508) % 360; // the golden angle keeps neighbours apart
      const part = (n) => {
        const k = (n + hue / 30) % 12;
        return Math.round(255 * (0.58 - 0.38 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
      };
      return new Uint32Array(new Uint8Array([part(0), part(8), part(4), 255]).buffer)[0];
    });
    map.forEach((number, i) => {
      if (number) words[i] = palette[number - 1];
    });
    context.putImageData(picture, 0, 0);
    this.proposals = { ...message, runs, map, canvas, masks: [] };
    if (!runs.length) this.picking = false;
    this.refresh();
    this.paint();
  }

  /** Say so when the kernel does not answer: it may be busy, restarted or gone. */
  watch() {
    const now = performance.now();
    const oldest = Math.min(...this.pending.values(), this.hoverRequest ? this.hoverTime : Infinity);
    if (now - oldest > PATIENCE && !this.gone) this.lose();
  }

  listen() {
    const { canvas, root } = this;
    const on = (target, name, handler, options) => target.addEventListener(name, handler, options);
    on(canvas, "pointerdown", (event) => this.down(event));
    on(canvas, "pointermove", (event) => this.move(event));
    on(canvas, "pointerup", (event) => this.up(event));
    on(canvas, "pointercancel", (event) => this.up(event, true));
    on(canvas, "pointerleave", () => {
      this.mouse = null;
      this.hover(null);
      this.paint();
    });
    on(canvas, "wheel", (event) => {
      event.preventDefault();
      const step = event.deltaMode === 1 ? 20 * event.deltaY : event.deltaY;
      this.zoom(Math.exp(-step * (event.ctrlKey ? 0.01 : 0.0015)), this.position(event));
    }, { passive: false });
    on(this.veil, "click", () => this.gone && this.send("hello"));
    on(root, "contextmenu", (event) => {
      if (event.target.matches("input")) return;
      event.preventDefault();
      event.stopPropagation();
    });
    on(root, "keydown", (event) => this.key(event));
    on(root, "keyup", (event) => this.keyUp(event));
    this.onMessage = (message, buffers) => this.receive(message, buffers ?? []);
    this.onComm = () => this.lose();
    this.model.on("msg:custom", this.onMessage);
    this.model.on("comm:close", this.onComm);
    this.timer = setInterval(() => this.watch(), 1000);
    this.sizes = new ResizeObserver(() => {
      this.theme(); // not before: only now the element is in the page
      this.paintNow();
    });
    this.sizes.observe(this.stage);
    this.themes = new MutationObserver(() => {
      this.theme();
      this.paint();
    });
    const attributeFilter = ["class", "style", "data-theme", "data-jp-theme-light"];
    for (const node of [document.documentElement, document.body]) {
      this.themes.observe(node, { attributes: true, attributeFilter });
    }
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.onScheme = () => this.theme();
    this.scheme.addEventListener("change", this.onScheme);
  }

  close() {
    clearInterval(this.timer);
    clearTimeout(this.press_);
    if (this.frame) cancelAnimationFrame(this.frame);
    this.sizes.disconnect();
    this.themes.disconnect();
    this.scheme.removeEventListener("change", this.onScheme);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm:close", this.onComm);
    this.root.remove();
  }
}

export default {
  render({ model, el }) {
    const page = new Page(model, el);
    return () => page.close();
  },
};
