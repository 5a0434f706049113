/* The web worker that decodes masks: bundled as text into the page, see build.js. */

/**
 * @import { Prompt } from "./logits.js"
 * @import { DecodeRequest, DecoderStart, EmbeddingStart, WorkerRequest } from "./types"
 */
import { axis, chosen, fromHalf, maskRuns, tokens } from "./logits.js";

const WARM_UPS = 60;

/** @type {any} the runtime, onnxruntime-web */
let ort;
/** @type {any} */
let session;
let low = 0; // side of the low-res masks
/** @type {any} a tensor */
let embedding;
/** @type {EmbeddingStart | null} */
let image = null;
let warmed = false;
/** @type {Promise<void>} one after the other */
let working = Promise.resolve();
let axesKey = "";
/** @type {ReturnType<typeof axis>[]} */
let axes = [];

/** @param {Uint8Array<ArrayBuffer> | [string, string]} file bytes, or an address and its hash */
async function bytes(file) {
  if (file instanceof Uint8Array) return file;
  const [address, integrity] = file;
  const reply = await fetch(address, { integrity, credentials: "omit" });
  if (!reply.ok) throw new Error(`${address}: ${reply.status} ${reply.statusText}`);
  return new Uint8Array(await reply.arrayBuffer());
}

/** @param {DecoderStart} message */
async function start({ provider, module, wasm, decoder }) {
  const [code, binary] = await Promise.all([bytes(module), bytes(wasm)]);
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; // notebooks' pages share no memory with workers
  ort.env.logLevel = "error";
  const graphOptimizationLevel = "basic"; // more takes longer than it saves
  const executionProviders = [provider];
  session = await ort.InferenceSession.create(decoder, {
    executionProviders,
    graphOptimizationLevel,
  });
  const outputs = session.outputMetadata;
  low = outputs.find((/** @type {any} */ each) => each.name === "low_res_masks").shape[2];
}

/** @param {EmbeddingStart} message */
async function show(message) {
  const values = fromHalf(new Uint16Array(message.half));
  embedding = new ort.Tensor("float32", values, message.shape);
  image = message;
  warm(warmed ? 0 : WARM_UPS);
  warmed = true;
}

/**
 * Decode for nobody: browsers compile WebAssembly better once it has run, and the first calls take
 * ten times as long. What is asked meanwhile comes between.
 * @param {number} left
 */
function warm(left) {
  if (!left || !image) return;
  const request = { id: 0, index: image.index, multimask: true, threshold: 0 };
  /** @type {Prompt} */
  const prompt = { points: [[0, 0, 1]], box: null };
  working = working
    .then(() => decode({ ...request, kind: "decode", prompt, display: [256, 256] }))
    .then(() => void setTimeout(() => warm(left - 1)));
}

/** @param {DecodeRequest} request */
async function decode({ index, prompt, multimask, threshold, display }) {
  if (!image || image.index !== index) return null;
  const [height, width] = image.original;
  const [h, w] = image.input;
  const { coords, labels } = tokens(prompt, [w / width, h / height]);
  const found = await session.run({
    image_embeddings: embedding,
    point_coords: new ort.Tensor("float32", coords, [1, labels.length, 2]),
    point_labels: new ort.Tensor("float32", labels, [1, labels.length]),
  });
  const scores = found.iou_predictions.data;
  const best = chosen(scores, multimask);
  const logits = found.low_res_masks.data.subarray(best * low * low, (best + 1) * low * low);
  const key = [...display, h, w].join();
  if (key !== axesKey) {
    axes = [axis(low, image.side, w, display[0]), axis(low, image.side, h, display[1])];
    axesKey = key;
  }
  return maskRuns(logits, low, axes[0], axes[1], threshold);
}

/** @param {WorkerRequest} request */
async function answer(request) {
  if (request.kind === "start") await start(request);
  else if (request.kind === "embedding") await show(request);
  else return decode(request);
  return null;
}

self.onmessage = ({ data }) => {
  working = working
    .then(() => answer(data))
    .then((runs) => self.postMessage({ kind: data.kind, id: data.id, index: data.index, runs }))
    .catch((error) =>
      self.postMessage({ kind: "failed", reason: String(error?.message ?? error) }),
    );
};
