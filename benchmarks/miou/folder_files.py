"""Read folders of images with label maps: BSDS500, instances, GrabCut's trimaps, MATLAB files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image

from benchmarks.miou.samples import Dataset, Entry, Target
from samjax.errors import AnnotationError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
LABELS = (".png", ".bmp", ".tif", ".tiff", ".mat")
IGNORED = 128  # ignored band of pixels around objects in GrabCut and Berkeley

LabelMap = Integer[np.ndarray, "H W"]
# Label maps of an image and their names -> targets
Meaning = Callable[[Sequence[LabelMap], Sequence[str]], list[Target]]


def read_labels(path: Path) -> list[LabelMap]:
    """Read the label maps of a file: one of a picture, one per annotator of a BSDS500 MATLAB file.

    Raises:
        AnnotationError: the file is unreadable.
    """
    try:
        if path.suffix == ".mat":
            return _read_mat(path)
        with Image.open(path) as image:
            # The indices of an indexed picture are the labels, not its colours.
            array = np.asarray(image.convert("L") if image.mode in ("1", "LA") else image)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise AnnotationError(f"{path}: not a readable label map ({error})") from error
    if array.ndim == 3:
        array = array[..., :3].max(-1)  # object masks saved as colour pictures (DAVIS)
    return [array.astype(np.int64)]


def _read_mat(path: Path) -> list[LabelMap]:
    from scipy.io import loadmat

    content = loadmat(path, struct_as_record=False, squeeze_me=False)
    if "groundTruth" in content:  # BSDS500: one struct per annotator
        found = [cell[0, 0].Segmentation for cell in content["groundTruth"].ravel()]
    else:  # SBD
        found = [content["GTinst"][0, 0].Segmentation]
    return [np.asarray(x).astype(np.int64) for x in found]


def segments(maps: Sequence[LabelMap], ids: Sequence[str]) -> list[Target]:
    """Make a target of every label of every map (BSDS500 has no background)."""
    return [
        _target(labels == value, f"{name}:{value}")
        for labels, name in zip(maps, ids, strict=True)
        for value in np.unique(labels)
    ]


def instances(maps: Sequence[LabelMap], ids: Sequence[str]) -> list[Target]:
    """Make a target of every label but 0."""
    return [t for t in segments(maps, ids) if t.id.rpartition(":")[2] != "0"]


def sbd_instances(maps: Sequence[LabelMap], ids: Sequence[str]) -> list[Target]:
    """Make a target of every label but 0 (background) and 255 (border, counted as background)."""
    return [t for t in instances(maps, ids) if t.id.rpartition(":")[2] != "255"]


def trimaps(maps: Sequence[LabelMap], ids: Sequence[str]) -> list[Target]:
    """Make one target of values over 128, and ignore 128."""
    return [
        _target(labels > IGNORED, name, labels == IGNORED)
        for labels, name in zip(maps, ids, strict=True)
    ]


def merged(maps: Sequence[LabelMap], ids: Sequence[str]) -> list[Target]:
    """Make one target of all labels but 0 (DAVIS)."""
    return [_target(labels > 0, name) for labels, name in zip(maps, ids, strict=True)]


def _target(mask: np.ndarray, name: str, ignore: np.ndarray | None = None) -> Target:
    ignore = ignore if ignore is not None and ignore.any() else None
    return Target(name, mask, ignore, area=float(np.count_nonzero(mask)))


# (folder of images, folder of labels, function to targets) of each layout; the first match is used
LAYOUTS: dict[str, tuple[str, str, Meaning]] = {
    "bsds": ("images", "segments", segments),
    "bsds-mat": ("images", "groundTruth", segments),
    "grabcut": ("data_GT", "boundary_GT", trimaps),
    "davis": ("img", "gt", merged),
    "sbd": ("img", "inst", sbd_instances),
    "labels": ("images", "labels", instances),
    "berkeley": ("images", "masks", trimaps),
}


def open_folder(
    root: Path, kind: str | None = None, images: Path | None = None, first_only: bool = False
) -> Dataset:
    """Open a folder in one of LAYOUTS.

    Args:
        root: folder that holds both folders of the layout. If these have a further level
            (``images/test``), end ``root`` in it: ``data/images/test``.
        kind: name of the layout; None takes the first whose folders exist.
        images: another folder of images.
        first_only: use only the first label map of each image (BSDS500: the first annotator).

    Raises:
        AnnotationError: no layout fits, or no image has labels.
    """
    kind, pictures, labels = _find(root, kind, images)
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(labels.iterdir(), key=_natural):
        if path.suffix.lower() in LABELS:
            found[path.stem].append(path)
    names = _listed(root)
    entries = []
    without = 0
    for path in sorted(pictures.iterdir(), key=lambda p: p.name):
        if path.suffix.lower() not in IMAGES or (names and path.stem not in names):
            continue
        own = found.get(path.stem) or _suffixed(found, path.stem)
        without += not own
        if own:
            own = own[:1] if first_only else own
            entries.append(
                Entry(path.stem, path, partial(load_targets, own, LAYOUTS[kind][2], first_only))
            )
    if not entries:
        raise AnnotationError(
            f"{pictures}: no image here has a label map in {labels} ({without} images seen): "
            "label maps are named as their image, or as it with _0, _1, ... or #001 after it"
        )
    note = f"{without} images without label maps left out" if without else ""
    return Dataset("/".join(root.parts[-2:]), kind, entries, note)


def _find(root: Path, kind: str | None, images: Path | None) -> tuple[str, Path, Path]:
    """Find the layout, its folder of images and its folder of labels."""
    for name in [kind] if kind else LAYOUTS:
        first, second, _ = LAYOUTS[name]
        if (root / second).is_dir() and (images or root / first).is_dir():
            return name, images or root / first, root / second
        if root.parent.name == first and (root.parent.parent / second / root.name).is_dir():
            return name, images or root, root.parent.parent / second / root.name
    if not root.is_dir():
        raise AnnotationError(f"{root}: no such folder or annotation file: check --data")
    wanted = ", ".join(
        f"{a}/ with {b}/" for a, b, _ in ([LAYOUTS[kind]] if kind else LAYOUTS.values())
    )
    raise AnnotationError(
        f"{root}: not a data set that is known: a folder must hold {wanted}; or give a COCO or "
        "LVIS annotation file"
    )


def _listed(root: Path) -> set[str]:
    """Read SBD's or DAVIS's list of validation images, if there is one."""
    path = root / "val.txt"
    return set(path.read_text().split()) if path.is_file() else set()


def _natural(path: Path) -> tuple:
    """Return a sort key that puts ID_2 before ID_10."""
    return tuple(int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.name))


def _suffixed(found: dict[str, list[Path]], stem: str) -> list[Path]:
    pattern = re.compile(re.escape(stem) + r"[_#-]\d+")
    return [p for name, paths in found.items() if pattern.fullmatch(name) for p in paths]


def load_targets(paths: list[Path], meaning: Meaning, first_only: bool) -> list[Target]:
    """Load the targets of an image's label maps; with ``first_only`` those of the first map."""
    maps, ids = [], []
    for path in paths:
        found = read_labels(path)
        found = found[:1] if first_only else found
        maps += found
        ids += [path.stem if len(found) == 1 else f"{path.stem}_{i}" for i in range(len(found))]
    return meaning(maps, ids)
