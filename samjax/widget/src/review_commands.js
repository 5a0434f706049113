/* What can be done in a review: a part of the table of commands. */

/**
 * @import { Command } from "./commands.js"
 * @import { Page } from "./page.js"
 */

/** @param {Page} page */
const hasOpened = ({ state }) => state.active?.opened ?? false;

/** @type {Command[]} */
export const REVIEW_COMMANDS = [
  {
    id: "review",
    title:
      "Review opened objects: an image's most doubtful first, then the next most doubtful image",
    keys: ["q"],
    group: "review",
    enabled: ({ state }) => Boolean(state.told?.review),
    pressed: ({ review }) => review.on,
    run: ({ review }) => review.toggle(),
  },
  {
    id: "accept",
    title: "Accept the opened object, and go to the next",
    keys: ["y"],
    group: "review",
    enabled: hasOpened,
    run: ({ kernel }) => void kernel.send("accept", { object_id: null }),
  },
  {
    id: "reject",
    title: "Reject the opened object, which is removed, and go to the next",
    keys: ["w"],
    group: "review",
    enabled: hasOpened,
    run: ({ kernel }) => void kernel.send("reject", { object_id: null }),
  },
  {
    id: "next-review",
    title: "Next object to review, without a decision",
    keys: ["u"],
    group: "review",
    enabled: ({ state }) => Boolean(state.told?.review),
    run: ({ kernel }) => void kernel.send("next_review"),
  },
];
