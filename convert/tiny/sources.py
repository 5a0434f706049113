"""What the training samples are cut from: photographs with segments, cut-outs, backgrounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

CUT_OUT_SIDE = 192  # pixels: a cut-out is pasted at about this size or smaller
HELD_OUT = 10  # every tenth image is never trained on: runs are compared on them


# Share of the image below which a source's segments are noise, or nothing that one would click.
SPECKS = {"camvid": 0.002, "bsds": 0.003}
NOT_PASTED = {"nuclei", "camvid", "nanoparticles", "mushrooms", "droplets", "facades"}
CUT_OUTS = 4000  # segments that are pasted into other images, at most

# How often an image of each source is drawn, relative to the others: by what its photographs
# show and how well they are outlined, not by their number.
SHARES = {
    "bsds": 0.4,
    "coco": 0.05,
    "nuclei": 0.02,
    "scene": 0.06,
    "coco_instances": 0.32,
    "coco_person": 0.12,
    "ccp_clothing": 0.05,
    "wild_animals": 0.05,
    "feral_cats": 0.03,
    "humans": 0.03,
    "horses": 0.02,
    "camvid": 0.03,
    "bin_objects": 0.025,
    "facades": 0.02,
    "pigs": 0.02,
    "bottles": 0.03,
    "balloons": 0.03,
    "mixed_objects": 0.03,
    "food_trays": 0.015,
    "medical_waste": 0.015,
    "nanoparticles": 0.004,
    "mushrooms": 0.004,
    "droplets": 0.004,
    "crop_weed": 0.006,
    "breadboards": 0.004,
    "stop_buttons": 0.006,
    "street_buildings": 0.006,
}
OTHER = 0.01  # of a source that is not named above


@dataclass(frozen=True)
class Picture:
    """A photograph with its label maps, still encoded: thousands of them fit into memory.

    Attributes:
        photograph: a JPEG or PNG file.
        maps: PNG files of labels, one an annotator or a level.
        first: what is added to the labels, so that 0 means no segment.
        specks: segments smaller than this share of the image are dropped.
        name: the photograph's, without suffix.
        pseudo: PNG files of a teacher's masks as labels.
        features: file of a teacher's image embedding [64, 64, 256] of the whole image.
    """

    photograph: bytes
    maps: tuple[bytes, ...]
    first: int = 0
    specks: float = 0.0
    name: str = ""
    pseudo: tuple[bytes, ...] = ()
    features: Path | None = None

    def image(self) -> np.ndarray:
        """RGB [H, W, 3] uint8."""
        decoded = cv2.imdecode(np.frombuffer(self.photograph, np.uint8), cv2.IMREAD_COLOR)
        return np.ascontiguousarray(decoded[:, :, ::-1])

    def pseudo_labels(self, index: int) -> np.ndarray:
        """Label map [H, W] int32 of the teacher's masks; 0: no segment."""
        return _label_map(self.pseudo[index])

    def labels(self, index: int) -> np.ndarray:
        """Label map [H, W] int32 of one annotator; 0: no segment."""
        labels = _label_map(self.maps[index]) + self.first
        if self.specks:
            areas = np.bincount(labels.ravel())
            labels[areas[labels] < self.specks * labels.size] = 0
        return labels


def _label_map(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).astype(np.int32)


@dataclass
class Sources:
    """What samples are drawn from.

    Attributes:
        images: pictures with segments, by source ("bsds", "coco", "nuclei", folders of a pack).
        cut_outs: pairs of an RGB image [h, w, 3] and its alpha [h, w], 0..255.
        backgrounds: RGB images without segments.
    """

    images: dict[str, list[Picture]]
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


def _bsds(root: Path) -> Iterator[Picture]:
    for path in sorted((root / "images").glob("*.jpg")):
        segments = sorted((root / "segments").glob(f"{path.stem}_*.png"))
        maps = tuple(p.read_bytes() for p in segments)
        yield Picture(path.read_bytes(), maps, 1, SPECKS["bsds"], path.stem)


def _coco(images: Path, annotations: Path) -> Iterator[Picture]:
    data = json.loads(annotations.read_text())
    by_image: dict[int, list[dict]] = {}
    for annotation in data["annotations"]:
        if not annotation["iscrowd"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    for entry in sorted(data["images"], key=lambda e: e["file_name"]):
        path = images / entry["file_name"]
        labels = np.zeros(_read(path).shape[:2], np.uint16)
        objects = sorted(by_image.get(entry["id"], []), key=lambda a: -a["area"])
        for number, annotation in enumerate(objects, 1):  # small ones on top
            rings = [
                np.reshape(r, (-1, 2)).round().astype(np.int32) for r in annotation["segmentation"]
            ]
            cv2.fillPoly(labels, rings, number)
        if labels.any():
            encoded = (cv2.imencode(".png", labels)[1].tobytes(),)
            yield Picture(path.read_bytes(), encoded, name=path.stem)


def _label_folder(root: Path) -> Iterator[Picture]:
    """images/NAME.jpg or .png, labels/NAME.png and, of a second level, labels2/NAME.png."""
    for path in sorted((root / "images").iterdir()):
        maps = [root / level / f"{path.stem}.png" for level in ("labels", "labels2")]
        encoded = tuple(p.read_bytes() for p in maps if p.exists())
        specks = SPECKS.get(root.name, 0.0)
        yield Picture(path.read_bytes(), encoded, specks=specks, name=path.stem)


def _with_teacher(picture: Picture, source: str, taught: Path) -> Picture:
    features = taught / f"{source}__{picture.name}.npy"
    if not features.exists():
        return picture
    with np.load(features.with_suffix(".maps.npz")) as maps:
        pseudo = tuple(maps[k].tobytes() for k in maps.files)
    return replace(picture, pseudo=pseudo, features=features)


def _segments_as_cut_outs(
    pictures: list[Picture], seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Whole-looking segments of medium size, at most ``CUT_OUTS`` of them, at random."""
    rng, found = np.random.default_rng(seed), []
    for index in rng.permutation(len(pictures)):
        picture = pictures[index]
        image = picture.image()
        for level in range(min(2, len(picture.maps))):
            labels = picture.labels(level)
            for number, area in zip(*np.unique(labels, return_counts=True), strict=True):
                if number == 0 or not 0.01 * labels.size < area < 0.35 * labels.size:
                    continue
                mask = labels == number
                rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
                touches = top == 0 or left == 0 or bottom == len(mask) or right == mask.shape[1]
                if touches and rng.random() < 0.6:  # probably not a whole object
                    continue
                alpha = mask[top:bottom, left:right].astype(np.uint8) * 255
                colours = _shrink(image[top:bottom, left:right], CUT_OUT_SIDE).copy()
                found.append((colours, _shrink(alpha, CUT_OUT_SIDE).copy()))
        if len(found) >= CUT_OUTS:
            break
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
    data: Path,
    cut_outs: list[Path],
    backgrounds: list[Path],
    held_out: bool,
    packs: list[Path] | None = None,
    taught: Path | None = None,
) -> Sources:
    """Read the training images, or only the held-out tenth of each source.

    Args:
        data: folder with bsds500/train, coco_tiny/train2017 (+ annotations) and nuclei.
        cut_outs: folders of PNGs with an alpha channel.
        backgrounds: folders of photographs (.jpg, .png).
        held_out: the tenth that is kept for choosing between runs, instead of the rest.
        packs: folders of sources, each a folder with images/ and labels/.
        taught: what convert.tiny.teacher wrote.
    """
    coco = data / "coco_tiny"
    pictures = {
        "bsds": list(_bsds(data / "bsds500/train")),
        "coco": list(_coco(coco / "train2017", coco / "annotations/instances_train2017.json")),
        "nuclei": list(_label_folder(data / "nuclei")),
    }
    for pack in packs or []:
        for folder in sorted(p for p in pack.iterdir() if (p / "labels").is_dir()):
            pictures.setdefault(folder.name, []).extend(_label_folder(folder))
    kept = {
        source: [x for i, x in enumerate(found) if (i % HELD_OUT == HELD_OUT - 1) == held_out]
        for source, found in pictures.items()
    }
    if held_out:
        return Sources(kept)
    if taught:
        kept = {k: [_with_teacher(x, k, taught) for x in found] for k, found in kept.items()}
    pasted = _segments_as_cut_outs(
        [x for name, found in kept.items() if name not in NOT_PASTED for x in found]
    )
    for folder in cut_outs:
        pasted += _alpha_images(folder)
    photographs = [
        _shrink(_read(path), 640)
        for folder in backgrounds
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]
    return Sources(kept, pasted, photographs)
