import { describe, expect, test } from "vitest";
import { COMMANDS, commandOf } from "../commands.js";
import { icon } from "../icons.js";
import { keyName, shownKeys } from "../keys.js";

/** @param {string} key @param {{shift?: boolean, ctrl?: boolean}} [held] */
const pressed = (key, { shift = false, ctrl = false } = {}) =>
  keyName({ key, shiftKey: shift, ctrlKey: ctrl });

describe("the table of commands", () => {
  test("has each name and each key once", () => {
    const ids = COMMANDS.map((each) => each.id);
    const keys = COMMANDS.flatMap((each) => each.keys);
    expect(new Set(ids).size).toBe(ids.length);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("names its keys as events do", () => {
    for (const key of COMMANDS.flatMap((each) => each.keys)) {
      const ctrl = key.startsWith("Ctrl+");
      const rest = ctrl ? key.slice(5) : key;
      const shift = rest.startsWith("Shift+");
      const bare = (shift ? rest.slice(6) : rest).replace("Space", " ");
      expect(pressed(bare, { shift, ctrl })).toBe(key);
    }
  });

  test("has an icon for each button", () => {
    for (const { id, group } of COMMANDS) if (group) expect(icon(id)).not.toContain("undefined");
  });
});

describe("keys", () => {
  test("lead to commands", () => {
    expect(commandOf(pressed("z"))?.id).toBe("undo");
    expect(commandOf(pressed("Z", { shift: true }))?.id).toBe("redo");
    expect(commandOf(pressed("z", { ctrl: true }))?.id).toBe("undo");
    expect(commandOf(pressed("7"))?.id).toBe("class");
    expect(commandOf(pressed("?", { shift: true }))?.id).toBe("help");
    expect(commandOf(pressed(" "))?.id).toBe("press");
  });

  test("mean the same with Shift, where it has no meaning of its own", () => {
    expect(commandOf(pressed("V", { shift: true }))?.id).toBe("mode-point");
    expect(commandOf(pressed("ArrowLeft", { shift: true }))?.id).toBe("cursor");
  });

  test("of the browser are left to it", () => {
    expect(commandOf(pressed("c", { ctrl: true }))).toBeUndefined();
    expect(commandOf(pressed("Tab"))).toBeUndefined();
  });

  test("are shown as people read them", () => {
    expect(shownKeys({ keys: ["Shift+n"] })).toBe("Shift N");
    expect(shownKeys({ keys: ["PageDown"] })).toBe("Page down");
    expect(shownKeys({ keys: ["+"] })).toBe("+");
    expect(shownKeys({ keys: ["Delete"] })).toBe("Del");
    expect(shownKeys({ keys: ["1", "2"], shown: "1 - 9" })).toBe("1 - 9");
  });
});
