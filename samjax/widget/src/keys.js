/* Names of keys, for events and for people. */

/**
 * Name the key of an event: "a", "Shift+a", "Ctrl+Shift+z", "Enter", "Shift+ArrowLeft", "?".
 * @param {{key: string, shiftKey: boolean, ctrlKey: boolean}} event
 */
export function keyName({ key, shiftKey, ctrlKey }) {
  const named = key === " " ? "Space" : key.length === 1 ? key.toLowerCase() : key;
  // Of characters such as "?" the Shift is part already.
  const shift = shiftKey && /^([a-z]|..+)$/.test(named) ? "Shift+" : "";
  return `${ctrlKey ? "Ctrl+" : ""}${shift}${named}`;
}

/**
 * Return the keys of a command as people read them.
 * @param {{keys: string[], shown?: string}} command
 */
export function shownKeys({ keys, shown }) {
  return shown ?? readableKey(keys[0]);
}

/** @param {string} key */
function readableKey(key) {
  if (key.length === 1) return key.toUpperCase();
  return key
    .replace("Delete", "Del")
    .replace(/Page(\w+)/, (_, way) => `Page ${way.toLowerCase()}`)
    .replace(/\+(\w)$/, (_, letter) => ` ${letter.toUpperCase()}`);
}
