/* The one table of what can be done: buttons, tooltips, keys and the panel of help come from it.
 *
 * Keys are named as `keyName` names them; the first of a command is the one that is shown.
 */

/**
 * @import { Page } from "./page.js"
 * @import { Point } from "./types"
 */

import { REVIEW_COMMANDS } from "./review_commands.js";

/**
 * @typedef {object} Command
 * @property {string} id
 * @property {string} title what it does, in the tooltip and the help
 * @property {string[]} keys
 * @property {string} [shown] keys as the help shows them, where that is not `keys`
 * @property {"images" | "tools" | "history" | "object" | "show" | "more" | "edit" | "review"} [group]
 *   of the toolbar, "edit" of the object's panel or "review" of its row; without one it has no button
 * @property {(page: Page, key: string) => void} run
 * @property {(page: Page) => boolean} [enabled] always, if missing
 * @property {(page: Page) => boolean} [pressed] for buttons that stay pressed
 */

/**
 * A command that sends a message without content.
 * @param {string} kind
 */
const sends = (kind) => (/** @type {Page} */ page) => void page.kernel.send(kind);

/** @param {Page} page */
const hasActive = ({ state }) => state.active !== null;

/** @param {Page} page @returns {Point} */
const centre = ({ stage }) => [stage.clientWidth / 2, stage.clientHeight / 2];

/** @type {Command[]} */
export const COMMANDS = [
  {
    id: "previous-image",
    title: "Previous image",
    keys: ["PageUp"],
    group: "images",
    enabled: ({ state }) => (state.told?.image.index ?? 0) > 0,
    run: sends("previous_image"),
  },
  {
    id: "next-image",
    title: "Next image",
    keys: ["PageDown"],
    group: "images",
    enabled: ({ state: { told } }) => told !== null && told.image.index < told.image.count - 1,
    run: sends("next_image"),
  },
  {
    id: "images",
    title: "List of images",
    keys: ["i"],
    group: "images",
    pressed: ({ images }) => !images.node.hidden,
    run: ({ images }) => images.toggle(),
  },
  ...tool("select", "Select: click on a mask, with Shift on several", "s"),
  ...tool("point", "Point: click on the object, right-click beside it, drag a box", "v"),
  ...tool("box", "Box: drag around an object; a click selects the mask there", "b"),
  ...tool("brush", "Brush: paint onto the mask", "g"),
  ...tool("erase", "Eraser: paint off the mask", "e"),
  ...tool(
    "edit",
    "Outline: drag vertices, click on an edge for a new one, right-click removes",
    "r",
  ),
  {
    id: "separate",
    title: "Each box is a new object",
    keys: ["Shift+b"],
    group: "tools",
    pressed: ({ state }) => state.separate,
    run: ({ state }) => {
      state.separate = !state.separate;
    },
  },
  {
    id: "sign",
    title: "Next clicks are negative",
    keys: ["t"],
    group: "tools",
    pressed: ({ state }) => state.sign === 0,
    run: ({ state }) => {
      state.sign = 1 - state.sign;
    },
  },
  {
    id: "undo",
    title: "Undo",
    keys: ["z", "Ctrl+z"],
    group: "history",
    enabled: ({ state }) => state.told?.undo ?? false,
    run: sends("undo"),
  },
  {
    id: "redo",
    title: "Redo",
    keys: ["Shift+z", "Ctrl+Shift+z"],
    group: "history",
    enabled: ({ state }) => state.told?.redo ?? false,
    run: sends("redo"),
  },
  {
    id: "commit",
    title: "Done with this object",
    keys: ["Enter", "c"],
    group: "object",
    enabled: hasActive,
    run: sends("commit"),
  },
  {
    id: "new",
    title: "New object",
    keys: ["Shift+n"],
    group: "object",
    enabled: hasActive,
    run: sends("new_object"),
  },
  {
    id: "delete",
    title: "Delete object",
    keys: ["Delete", "Backspace"],
    group: "object",
    enabled: hasActive,
    run: ({ kernel }) => void kernel.send("delete", { object_id: null }),
  },
  {
    id: "duplicate",
    title: "Duplicate the object",
    keys: ["d"],
    group: "edit",
    enabled: hasActive,
    run: sends("duplicate"),
  },
  {
    id: "split",
    title: "Split into connected parts",
    keys: ["k"],
    group: "edit",
    enabled: hasActive,
    run: sends("split"),
  },
  {
    id: "merge",
    title: "Merge the selected objects",
    keys: ["j"],
    group: "edit",
    enabled: ({ state }) => state.chosen.length > 1,
    run: ({ actions }) => actions.combine("merge"),
  },
  {
    id: "subtract",
    title: "Subtract the other selected objects from the active one",
    keys: ["Shift+j"],
    group: "edit",
    enabled: ({ state }) => state.chosen.length > 1,
    run: ({ actions }) => actions.combine("subtract"),
  },
  {
    id: "shrink",
    title: "Shrink by a pixel",
    keys: [","],
    group: "edit",
    enabled: hasActive,
    run: ({ kernel }) => void kernel.send("grow", { pixels: -1 }),
  },
  {
    id: "grow",
    title: "Grow by a pixel",
    keys: ["."],
    group: "edit",
    enabled: hasActive,
    run: ({ kernel }) => void kernel.send("grow", { pixels: 1 }),
  },
  {
    id: "hide",
    title: "Hide or show the object; all objects if none is active",
    keys: ["h"],
    group: "show",
    pressed: ({ state }) => state.hidden.size + state.hiddenClasses.size > 0,
    run: ({ state, actions, kernel }) => {
      const { active } = state;
      if (!active) actions.toggleAll();
      else {
        state.hidden.add(active.id);
        kernel.send("new_object");
      }
    },
  },
  {
    id: "next-object",
    title: "Next object",
    keys: ["n"],
    run: ({ actions }) => actions.walk(1),
  },
  {
    id: "previous-object",
    title: "Previous object",
    keys: ["p"],
    run: ({ actions }) => actions.walk(-1),
  },
  {
    id: "candidate",
    title: "Next of the candidate masks",
    keys: ["m"],
    run: ({ actions }) => actions.nextCandidate(),
  },
  {
    id: "class",
    title: "Class of the object",
    keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
    shown: "1 - 9",
    run: ({ actions }, key) => actions.classAt(Number(key) - 1),
  },
  {
    id: "automatic",
    title: "Automatic masks to pick from",
    keys: ["a"],
    group: "show",
    enabled: ({ state }) => state.usable && state.told?.automatic === null,
    pressed: ({ automatic }) => automatic.choosing !== null,
    run: ({ automatic }) => automatic.toggle(),
  },
  ...REVIEW_COMMANDS,
  {
    id: "multimask",
    title: "Three candidates to choose from",
    keys: ["Shift+m"],
    group: "show",
    enabled: ({ state }) => state.told !== null,
    pressed: ({ state }) => state.told?.multimask ?? false,
    run: ({ kernel, state }) => void kernel.send("set_multimask", { on: !state.told?.multimask }),
  },
  {
    id: "colour",
    title: "Colour by class",
    keys: ["l"],
    group: "show",
    pressed: ({ state }) => state.colourBy === "class",
    run: ({ state }) => {
      state.colourBy = state.colourBy === "class" ? "object" : "class";
    },
  },
  {
    id: "fill",
    title: "Outlines only, without fill",
    keys: ["Shift+o"],
    group: "show",
    pressed: ({ state }) => !state.fills,
    run: ({ state }) => {
      state.fills = !state.fills;
      if (!state.fills) state.outlines = true;
    },
  },
  {
    id: "outline",
    title: "Outlines",
    keys: ["o"],
    group: "show",
    pressed: ({ state }) => state.outlines,
    run: ({ state }) => {
      state.outlines = !state.outlines;
    },
  },
  {
    id: "fit",
    title: "Fit the image",
    keys: ["f"],
    group: "more",
    run: ({ view }) => {
      view.fitted = true;
    },
  },
  {
    id: "export",
    title: "Export: format, path or download",
    keys: ["x"],
    group: "more",
    enabled: ({ state }) => state.told !== null,
    pressed: ({ exporter }) => !exporter.node.hidden,
    run: ({ exporter }) => exporter.toggle(),
  },
  {
    id: "help",
    title: "Keys",
    keys: ["?"],
    group: "more",
    pressed: ({ help }) => !help.hidden,
    run: ({ help }) => {
      help.hidden = !help.hidden;
    },
  },
  {
    id: "zoom-in",
    title: "Zoom in",
    keys: ["+", "="],
    run: (page) => page.zoom(1.25, centre(page)),
  },
  {
    id: "zoom-out",
    title: "Zoom out",
    keys: ["-", "_"],
    run: (page) => page.zoom(0.8, centre(page)),
  },
  {
    id: "smaller-brush",
    title: "Smaller brush",
    keys: ["["],
    run: (page) => page.setRadius(page.state.radius - 2),
  },
  {
    id: "larger-brush",
    title: "Larger brush",
    keys: ["]"],
    run: (page) => page.setRadius(page.state.radius + 2),
  },
  {
    id: "cursor",
    title: "Move the cursor; with Shift by a pixel",
    keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"],
    shown: "Arrows",
    run: ({ keyboard }, key) => keyboard.moveCursor(key),
  },
  {
    id: "press",
    title: "Click at the cursor, with Shift a negative click; held down: drag the image",
    keys: ["Space"],
    run: ({ keyboard }) => keyboard.hold(),
  },
  {
    id: "escape",
    title: "Leave the automatic masks, a box or the help",
    keys: ["Escape"],
    run: (page) => page.escape(),
  },
];

/** What the pointer does, for the help. */
export const GESTURES = [
  { shown: "Point", title: "Preview of a new object" },
  { shown: "Click", title: "On the object" },
  { shown: "Right-click, Shift-click, long press", title: "On what is not part of it" },
  { shown: "Alt-click", title: "Select the mask there, in any tool" },
  { shown: "Drag", title: "A box; with automatic masks a lasso that adds those inside" },
  { shown: "Right-click on a class, F2", title: "Rename it, or make it part of another" },
  { shown: "Wheel or pinch", title: "Zoom" },
  { shown: "Space-drag or middle button", title: "Move the image" },
];

/**
 * @param {import("./types").Mode} mode
 * @param {string} title
 * @param {string} key
 * @returns {Command[]}
 */
function tool(mode, title, key) {
  return [
    {
      id: `mode-${mode}`,
      title,
      keys: [key],
      group: "tools",
      pressed: ({ state, automatic }) => state.mode === mode && !automatic.choosing,
      run: ({ state, automatic, editor }) => {
        state.mode = mode;
        state.preview = null;
        automatic.picking = false;
        editor.answered();
      },
    },
  ];
}

const BY_ID = new Map(COMMANDS.map((each) => [each.id, each]));
const BY_KEY = new Map(COMMANDS.flatMap((each) => each.keys.map((key) => [key, each])));

/** @param {string} id */
export function command(id) {
  const found = BY_ID.get(id);
  if (!found) throw new Error(`no command ${id}`);
  return found;
}

/**
 * Return the command of a key; with Shift, which has no meaning of its own for most, too.
 * @param {string} key as `keyName` names it
 */
export function commandOf(key) {
  return BY_KEY.get(key) ?? (key.startsWith("Shift+") ? BY_KEY.get(key.slice(6)) : undefined);
}
