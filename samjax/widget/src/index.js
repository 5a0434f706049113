/* The module that anywidget loads. */

/** @import { WidgetModel } from "./types" */
import { Page } from "./page.js";

export default {
  /** @param {{model: WidgetModel, el: Element}} context */
  render({ model, el }) {
    const page = new Page(model, el);
    return () => page.close();
  },
};
