// Segments by clicks in the page, with the two files of `samjax export MODEL sam.onnx --part both`.
// onnxruntime-web is served from this folder: npm install onnxruntime-web
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

const status = document.getElementById("status");
const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const [encoder, decoder] = await Promise.all(
  ["sam.encoder.onnx", "sam.decoder.onnx"].map((name) => ort.InferenceSession.create(name)),
).catch((error) => {
  status.textContent = `The model does not load: ${error.message}`;
  throw error;
});
// Side of the low-res masks; the network's input is four times as long.
const lowRes = decoder.inputMetadata.find((input) => input.name === "mask_input").shape[3];
const size = 4 * lowRes;
const noMask = new ort.Tensor(new Float32Array(lowRes * lowRes), [1, 1, lowRes, lowRes]);

let picture = null; // what is shown
let embedding = null;
let scale = 1; // from pixels of the picture to pixels of the network's input
let points = []; // {x, y, label}, in pixels of the picture
let working = Promise.resolve(); // one after the other

/** Return the picture's pixels, resized so that the longer side is the network's. */
function resized(image) {
  scale = size / Math.max(image.width, image.height);
  const width = Math.round(image.width * scale);
  const height = Math.round(image.height * scale);
  const small = new OffscreenCanvas(width, height).getContext("2d");
  small.imageSmoothingQuality = "high";
  small.drawImage(image, 0, 0, width, height);
  const rgba = small.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4) {
    rgb[j++] = rgba[i];
    rgb[j++] = rgba[i + 1];
    rgb[j++] = rgba[i + 2];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

/** Encode a picture once; every click then needs the decoder alone. */
async function open(image) {
  picture = image;
  points = [];
  embedding = null;
  canvas.width = image.width;
  canvas.height = image.height;
  context.drawImage(image, 0, 0);
  status.textContent = "Encoding …";
  await new Promise((done) => setTimeout(done)); // let the page be drawn
  const start = performance.now();
  embedding = (await encoder.run({ image: resized(image) })).image_embeddings;
  status.textContent = `Encoded in ${Math.round(performance.now() - start)} ms: click.`;
}

/** Decode the points and return the best mask's logits, of the picture's size, and its score. */
async function segment() {
  const n = points.length + 1; // without a box, a padding point of label -1 follows
  const coords = new Float32Array(2 * n);
  const labels = new Float32Array(n).fill(-1);
  points.forEach(({ x, y, label }, i) => {
    coords.set([x * scale, y * scale], 2 * i);
    labels[i] = label;
  });
  const found = await decoder.run({
    image_embeddings: embedding,
    point_coords: new ort.Tensor(coords, [1, n, 2]),
    point_labels: new ort.Tensor(labels, [1, n]),
    mask_input: noMask,
    has_mask_input: new ort.Tensor(new Float32Array([0]), [1]),
    orig_im_size: new ort.Tensor(new Float32Array([picture.height, picture.width]), [2]),
  });
  // One click is ambiguous: the best of three. More are not: the single mask, the first.
  const scores = Array.from(found.iou_predictions.data);
  const best = points.length > 1 ? 0 : scores.indexOf(Math.max(...scores.slice(1)), 1);
  const area = picture.width * picture.height;
  return [found.masks.data.subarray(best * area, (best + 1) * area), scores[best]];
}

/** Show the mask in colour over the picture, and the points. */
function show(logits) {
  context.drawImage(picture, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  let inside = 0;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] <= 0) continue;
    inside += 1;
    image.data[4 * i] = image.data[4 * i] / 2 + 15;
    image.data[4 * i + 1] = image.data[4 * i + 1] / 2 + 70;
    image.data[4 * i + 2] = image.data[4 * i + 2] / 2 + 127;
  }
  context.putImageData(image, 0, 0);
  for (const { x, y, label } of points) {
    context.beginPath();
    context.arc(x, y, Math.max(4, canvas.width / 150), 0, 2 * Math.PI);
    context.fillStyle = label ? "#12a150" : "#d21e3c";
    context.fill();
    context.strokeStyle = "#fff";
    context.stroke();
  }
  return inside;
}

async function click(event) {
  if (!embedding) return;
  const box = canvas.getBoundingClientRect();
  points.push({
    x: ((event.clientX - box.left) * canvas.width) / box.width,
    y: ((event.clientY - box.top) * canvas.height) / box.height,
    label: event.shiftKey ? 0 : 1,
  });
  const start = performance.now();
  const [logits, score] = await segment();
  const time = Math.round(performance.now() - start);
  const inside = show(logits);
  status.textContent = `${inside} pixels, predicted IoU ${score.toFixed(2)}, ${time} ms`;
}

/** Run a task after those before it, and show what went wrong. */
function queue(task) {
  working = working.then(task).catch((error) => {
    status.textContent = `It did not work: ${error.message}`;
  });
}

canvas.addEventListener("click", (event) => queue(() => click(event)));
document.getElementById("clear").addEventListener("click", () =>
  queue(() => {
    points = [];
    if (picture) context.drawImage(picture, 0, 0);
  }),
);
document.getElementById("file").addEventListener("change", (event) =>
  queue(async () => {
    const file = event.target.files[0];
    if (file) await open(await createImageBitmap(file)); // as a viewer shows it: EXIF applied
  }),
);
status.textContent = "Choose a photograph.";
