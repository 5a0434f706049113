/* Bundle the sources into ../static/widget.js, which is committed: users need no node; and write
 * the table of commands into the documentation.
 *
 *     npm run build     write both
 *     npm run bundle    exit with 1 if a committed file is another one
 */

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { helpTable } from "./help.js";

const bundle = fileURLToPath(new URL("../static/widget.js", import.meta.url));
const banner = "/* Made by `npm run build` in samjax/widget/src: change the sources there. */";

/** @type {import("esbuild").BuildOptions & {write: false}} */
const settings = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  bundle: true,
  write: false,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  minify: true,
};
/** A module that is imported as "NAME?text" comes bundled, as text: the source of a web worker. */
const asText = {
  name: "text",
  /** @param {import("esbuild").PluginBuild} each */
  setup(each) {
    each.onResolve({ filter: /\?text$/ }, ({ path }) => ({ path, namespace: "text" }));
    each.onLoad({ filter: /.*/, namespace: "text" }, async ({ path }) => {
      const made = await build({ ...settings, entryPoints: [path.replace("?text", "")] });
      return { contents: made.outputFiles[0].text, loader: "text" };
    });
  },
};

const { outputFiles } = await build({
  ...settings,
  entryPoints: ["index.js"],
  plugins: [asText],
  lineLimit: 120,
  banner: { js: banner },
});
const page = fileURLToPath(new URL("../../../docs/annotator.md", import.meta.url));
const written = await readFile(page, "utf8");
const [before, , after] = written.split(/(?<=<!-- commands -->\n)|(?=<!-- end of commands -->)/);
if (after === undefined) {
  console.error(`${page} has no <!-- commands --> and <!-- end of commands -->: put them back`);
  process.exit(1);
}

const made = [
  [bundle, outputFiles[0].text],
  [page, `${before}${helpTable()}${after}`],
];
for (const [path, text] of made) {
  if (!process.argv.includes("--check")) {
    await writeFile(path, text);
  } else if ((await readFile(path, "utf8").catch(() => "")) !== text) {
    console.error(`${path} is not what the sources give: run \`npm run build\``);
    process.exit(1);
  }
  console.log(`${path}: ${text.length} characters`);
}
