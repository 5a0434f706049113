"""What the training samples are cut from: photographs with segments, cut-outs, backgrounds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

CUT_OUT_SIDE = 192  # pixels: a cut-out is pasted at about this size or smaller
HELD_OUT = 10  # every tenth image is never trained on: runs are compared on them


@dataclass
class Sources:
    """Everything in memory, uint8.

    Attributes:
        images: for each kind ("bsds", "coco", "nuclei") pairs of an RGB image [H, W, 3] and its
            label maps [H, W] int32 (0: no segment), one an annotator.
        cut_outs: pairs of an RGB image [h, w, 3] and its alpha [h, w], 0..255.
        backgrounds: RGB images without segments.
    """

    images: dict[str, list[tuple[np.ndarray, list[np.ndarray]]]]
    cut_outs: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    backgrounds: list[np.ndarray] = field(default_factory=list)


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: cannot be read as an image")
    return np.ascontiguousarray(image[:, :, ::-1])


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _bsds(root: Path) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    found = []
    for path in sorted((root / "images").glob("*.jpg")):
        segments = sorted((root / "segments").glob(f"{path.stem}_*.png"))
        maps = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED).astype(np.int32) + 1 for p in segments]
        found.append((_read(path), maps))
    return found


def _coco(images: Path, annotations: Path) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    data = json.loads(annotations.read_text())
    by_image: dict[int, list[dict]] = {}
    for annotation in data["annotations"]:
        if not annotation["iscrowd"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    found = []
    for entry in sorted(data["images"], key=lambda e: e["file_name"]):
        image = _read(images / entry["file_name"])
        labels = np.zeros(image.shape[:2], np.int32)
        objects = sorted(by_image.get(entry["id"], []), key=lambda a: -a["area"])
        for number, annotation in enumerate(objects, 1):  # small ones on top
            rings = [
                np.reshape(r, (-1, 2)).round().astype(np.int32) for r in annotation["segmentation"]
            ]
            cv2.fillPoly(labels, rings, number)
        if labels.any():
            found.append((image, [labels]))
    return found


def _label_folder(root: Path) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    return [
        (
            _read(p),
            [cv2.imread(str(root / "labels" / p.name), cv2.IMREAD_UNCHANGED).astype(np.int32)],
        )
        for p in sorted((root / "images").glob("*.png"))
    ]


def _segments_as_cut_outs(images: list, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng, found = np.random.default_rng(seed), []
    for image, maps in images:
        for labels in maps[:2]:
            for number, area in zip(*np.unique(labels, return_counts=True), strict=True):
                if number == 0 or not 0.01 * labels.size < area < 0.35 * labels.size:
                    continue
                mask = labels == number
                rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
                touches = top == 0 or left == 0 or (bottom, right) == mask.shape
                if touches and rng.random() < 0.6:  # probably not a whole object
                    continue
                alpha = mask[top:bottom, left:right].astype(np.uint8) * 255
                found.append((image[top:bottom, left:right].copy(), alpha))
    return found


def _alpha_images(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for path in sorted(folder.rglob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.shape[2] != 4:
            continue
        if image.dtype != np.uint8:
            image = (image >> 8).astype(np.uint8)
        rows, cols = (np.flatnonzero((image[..., 3] > 127).any(axis)) for axis in (1, 0))
        if len(rows) < 16 or len(cols) < 16:
            continue
        image = _shrink(image[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], CUT_OUT_SIDE)
        if (image[..., 3] > 127).mean() > 0.97:  # a full rectangle is no cut-out
            continue
        found.append((np.ascontiguousarray(image[..., 2::-1]), image[..., 3].copy()))
    return found


def read_sources(
    data: Path, cut_outs: list[Path], backgrounds: list[Path], held_out: bool
) -> Sources:
    """Read the training images, or only the held-out tenth of them.

    Args:
        data: folder with bsds500/train, coco_tiny/train2017 (+ annotations) and nuclei.
        cut_outs: folders of PNGs with an alpha channel.
        backgrounds: folders of photographs (.jpg, .png).
        held_out: the tenth that is kept for choosing between runs, instead of the rest.
    """
    kinds = {
        "bsds": _bsds(data / "bsds500/train"),
        "coco": _coco(
            data / "coco_tiny/train2017", data / "coco_tiny/annotations/instances_train2017.json"
        ),
        "nuclei": _label_folder(data / "nuclei"),
    }
    kept = {
        kind: [x for i, x in enumerate(images) if (i % HELD_OUT == HELD_OUT - 1) == held_out]
        for kind, images in kinds.items()
    }
    if held_out:
        return Sources(kept)
    pasted = _segments_as_cut_outs(kept["bsds"] + kept["coco"])
    for folder in cut_outs:
        pasted += _alpha_images(folder)
    pictures = [
        _shrink(_read(path), 640)
        for folder in backgrounds
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]
    return Sources(kept, pasted, pictures)
