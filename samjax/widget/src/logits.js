/* From the decoder's numbers to a mask: pure functions, the same arithmetic as the kernel's. */

/**
 * @typedef {{
 *   points: [number, number, number][],
 *   box: [number, number, number, number] | null,
 * }} Prompt points (x, y, label) and a box, pixels of the image
 */

/**
 * Read float16 numbers.
 * @param {Uint16Array} words
 */
export function fromHalf(words) {
  const table = new Float32Array(1 << 16);
  for (let word = 0; word < 1 << 15; word++) {
    const exponent = word >> 10;
    const fraction = word & 1023;
    const value = exponent
      ? 2 ** (exponent - 15) * (1 + fraction / 1024)
      : 2 ** -14 * (fraction / 1024);
    table[word] = value;
    table[word | 0x8000] = -value;
  }
  return Float32Array.from(words, (word) => table[word]);
}

/**
 * Return the decoder's tokens of a prompt: a box's corners follow the points, else a padding point.
 * @param {Prompt} prompt
 * @param {[number, number]} scale pixels of the network's input a pixel of the image, x and y
 */
export function tokens({ points, box }, [sx, sy]) {
  const all = [...points];
  if (box) all.push([box[0], box[1], 2], [box[2], box[3], 3]);
  const coords = new Float32Array(2 * (all.length + (box ? 0 : 1)));
  const labels = new Float32Array(coords.length / 2).fill(-1);
  all.forEach(([x, y, label], i) => {
    coords.set([x * sx, y * sy], 2 * i);
    labels[i] = label;
  });
  return { coords, labels };
}

/**
 * Return the index of the mask to show: the single one, or the best of the others.
 * @param {ArrayLike<number>} scores the single mask's first
 * @param {boolean} multimask
 */
export function chosen(scores, multimask) {
  if (!multimask || scores.length === 1) return 0;
  let best = 1;
  for (let i = 2; i < scores.length; i++) if (scores[i] > scores[best]) best = i;
  return best;
}

/**
 * Where pixels between two grids lie, as torch's bilinear interpolation has it: [first, share].
 * @param {number} at
 * @param {number} inputs
 * @param {number} outputs
 * @returns {[number, number]} the first of two neighbours, and the share of the second
 */
function between(at, inputs, outputs) {
  const source = Math.max(0, (inputs / outputs) * (at + 0.5) - 0.5);
  const first = Math.min(Math.floor(source), inputs - 1);
  return [first, first === inputs - 1 ? 0 : source - first];
}

/**
 * Compose one axis of both resizings, to the network's input and from there to the picture: each
 * output pixel is a sum of three neighbours of the low-res mask.
 * @param {number} low side of the low-res mask, 4 or more
 * @param {number} side of the network's input
 * @param {number} inside how much of it is image
 * @param {number} out
 */
export function axis(low, side, inside, out) {
  const first = new Int32Array(out);
  const weights = new Float32Array(3 * out);
  for (let o = 0; o < out; o++) {
    const [i, share] = between(o, inside, out);
    const begin = between(i, low, side)[0];
    first[o] = Math.min(begin, low - 3);
    for (const [at, part] of [
      [i, 1 - share],
      [Math.min(i + 1, inside - 1), share],
    ]) {
      const [j, rest] = between(at, low, side);
      weights[3 * o + j - first[o]] += part * (1 - rest);
      if (rest) weights[3 * o + j + 1 - first[o]] += part * rest;
    }
  }
  return { first, weights };
}

/**
 * Upscale a low-res mask to the picture and return its run lengths: zeros first, along the rows.
 * @param {Float32Array} logits low x low
 * @param {number} low
 * @param {ReturnType<typeof axis>} columns
 * @param {ReturnType<typeof axis>} rows
 * @param {number} threshold
 */
export function maskRuns(logits, low, columns, rows, threshold) {
  const [width, height] = [columns.first.length, rows.first.length];
  const { weights } = columns;
  const wide = new Float32Array(low * width);
  for (let r = 0; r < low; r++) {
    for (let x = 0; x < width; x++) {
      const from = r * low + columns.first[x];
      const [u, v, w] = [weights[3 * x], weights[3 * x + 1], weights[3 * x + 2]];
      wide[r * width + x] = u * logits[from] + v * logits[from + 1] + w * logits[from + 2];
    }
  }
  /** @type {number[]} */
  const runs = [];
  let inside = false;
  let length = 0;
  for (let y = 0; y < height; y++) {
    const a = rows.first[y] * width;
    const [b, c] = [a + width, a + 2 * width];
    const [u, v, w] = rows.weights.subarray(3 * y, 3 * y + 3);
    for (let x = 0; x < width; x++) {
      if (u * wide[a + x] + v * wide[b + x] + w * wide[c + x] > threshold === inside) length++;
      else {
        runs.push(length);
        inside = !inside;
        length = 1;
      }
    }
  }
  runs.push(length);
  return Uint32Array.from(runs);
}
