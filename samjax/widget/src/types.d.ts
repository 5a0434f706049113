/** What travels between the page and the kernel, and what the page keeps. */

import type { Prompt } from "./logits.js";
import type { Mask } from "./mask.js";

/** (x, y): pixels of the image, or CSS pixels of the canvas where a name says so. */
export type Point = [number, number];
/** [left, top, right, bottom]. */
export type Box = [number, number, number, number];
/** [red, green, blue], 0 to 255. */
export type Colour = [number, number, number];
export type Mode = "select" | "point" | "box" | "brush" | "erase" | "edit";
/** A closed ring of vertices. */
export type Ring = Point[];
export type Level = "info" | "warning" | "error";
export type Phase = "waiting" | "loading" | "encoding" | "ready" | "error";
/** The columns where a row's runs begin and end: [begin, end, begin, ...]. */
export type RowEdges = number[];

/** The model that anywidget passes to `render`. */
export interface WidgetModel {
  get(name: string): unknown;
  send(content: unknown): void;
  on(name: string, callback: (...values: never[]) => void): void;
  off(name: string, callback: (...values: never[]) => void): void;
}

export interface ObjectEntry {
  id: number;
  label: string;
  colour: Colour;
  committed: boolean;
  /** Whether annotations gave it. */
  opened: boolean;
  /** Whether nothing is left to do: committed, and reviewed if it was opened. */
  done: boolean;
  points: [number, number, number][];
  box: Box | null;
  strokes: number;
  score: number | null;
  /** Version of the mask, 0 while there is none. */
  mask: number;
}

export interface CandidateEntry {
  scores: number[];
  rank: number;
  /** How many thumbnails follow the masks; missing if the page holds them. */
  fresh?: number;
  size?: [number, number];
  region?: Box;
}

/** The state of the current image, as the kernel has it. */
export interface Update {
  kind: "update";
  request: string | null;
  replies: number;
  /** Goes back with each message: changes when the objects get other numbers. */
  revision: string;
  masks: { id: number; version: number; area: number }[];
  image: {
    index: number;
    count: number;
    name: string;
    phase: Phase;
    next: Phase | null;
    /** Images with objects that are all done. */
    done: number;
  };
  /** Opened objects, [reviewed, all], of the image and of all; null without annotations. */
  review: { here: [number, number]; all: [number, number] } | null;
  status: { text: string; level: Level };
  /** Part of the automatic masks that is done, null if none are being made. */
  automatic: number | null;
  candidates: CandidateEntry | null;
  objects: ObjectEntry[];
  active: number | null;
  undo: boolean;
  redo: boolean;
  multimask: boolean;
  threshold: number;
  label: string;
  classes: string[];
  class_colours: Colour[];
  /** Folder that exports go to if no other is named. */
  export_folder: string;
  /** Whether a text can be looked for. */
  detector: boolean;
}

/** An update as it is sent: objects that the page holds already are their ids alone. */
export type UpdateMessage = Omit<Update, "objects"> & { objects: (ObjectEntry | number)[] };

export interface ImageMessage {
  kind: "image";
  index: number;
  width: number;
  height: number;
  display: [number, number];
}

export interface AutomaticMasksMessage {
  kind: "automatic_masks";
  /** The score from which masks are shown at first. */
  floor: number;
  least: number;
  index: number;
  size: [number, number];
  runs: number[];
  areas: number[];
  scores: number[];
  labels: (string | null)[];
}

export interface HoverMessage {
  kind: "hover";
  request: string | null;
  index: number;
  score?: number;
}

/** A file of the decoder's runtime: its bytes, or its address and hash. */
export type RuntimeFile = Uint8Array<ArrayBuffer> | [string, string];

/** The decoder and its runtime, whose files follow where they have no address. */
export interface DecoderMessage {
  kind: "page_decoder";
  provider: string;
  /** Why there is none. */
  error?: string;
  module?: [string, string];
  wasm?: [string, string];
}

/** An image's embedding follows, float16. */
export interface EmbeddingMessage {
  kind: "embedding";
  index: number;
  /** (height, width) of the image. */
  original: [number, number];
  /** (height, width) of the image inside of the network's input. */
  input: [number, number];
  /** Side of the network's input. */
  side: number;
  shape: number[];
}

export interface DecoderStart {
  kind: "start";
  provider: string;
  decoder: Uint8Array;
  module: RuntimeFile;
  wasm: RuntimeFile;
}

export type EmbeddingStart = EmbeddingMessage & { half: ArrayBuffer };

export interface DecodeRequest {
  kind: "decode";
  id: number;
  index: number;
  prompt: Prompt;
  multimask: boolean;
  threshold: number;
  display: [number, number];
}

export type WorkerRequest = DecoderStart | EmbeddingStart | DecodeRequest;

export type WorkerAnswer =
  | { kind: "start" }
  | { kind: "embedding"; index: number }
  | { kind: "decode"; id: number; runs: Uint32Array | null }
  | { kind: "failed"; reason: string };

/** All images, in order: their names, and how many objects each has and has done. */
export interface ImagesMessage {
  kind: "images";
  names: string[];
  counts: [number, number][];
}

export interface ThumbnailMessage {
  kind: "thumbnail";
  index: number;
}

export interface DownloadMessage {
  kind: "download";
  name: string;
}

export type KernelMessage =
  | DownloadMessage
  | ImagesMessage
  | ThumbnailMessage
  | UpdateMessage
  | ImageMessage
  | AutomaticMasksMessage
  | DecoderMessage
  | EmbeddingMessage
  | HoverMessage;

/** The image that is shown. */
export interface Picture {
  index: number;
  width: number;
  height: number;
  display: [number, number];
  bitmap: ImageBitmap;
}

/** A mask of an object; `mask` is made when the size of the display is known. */
export interface HeldMask {
  version: number;
  runs: Uint32Array;
  mask?: Mask;
}

export interface Thumbnails {
  size: [number, number];
  region: Box;
  masks: Mask[];
  key: string;
}

/** What the page decoded of marks that the kernel has yet to answer. */
export interface Foreseen {
  mask: Mask;
  /** Whether it will be an object of its own, beside the active one. */
  fresh: boolean;
}

/** What was done and waits for its mask. */
export type Mark =
  | { kind: "point"; point: Point; label: number }
  | { kind: "box"; box: Box }
  | { kind: "stroke"; points: Point[]; radius: number; add: boolean };

/** What the pointer, or the keyboard's cursor, is doing. */
export type Drag =
  | { kind: "pinch" }
  | { kind: "pan" }
  | { kind: "stroke"; points: Point[]; radius: number; add: boolean }
  | { kind: "click"; start: Point; pixel: Point; label: number; box: Box | null }
  | { kind: "cursor"; box: Box }
  | { kind: "vertex"; ring: number; vertex: number }
  | { kind: "select"; pixel: Point; add: boolean }
  | { kind: "lasso"; points: Point[]; pixel: Point };
