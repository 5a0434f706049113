"""Write the results of ``samjax segment`` for one image: all files or none."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8
from PIL import Image

from samjax.errors import SamjaxError
from samjax.files import check_outputs, is_input, protecting, refuse_address, replacing, writing
from samjax.prediction import Prediction


@dataclass(frozen=True)
class Ranked:
    """Hold masks of O objects, each object's C candidates by falling score.

    ``order`` is the index of each candidate in the network's own order.
    """

    masks: Bool[np.ndarray, "O C H W"]
    scores: Float32[np.ndarray, "O C"]
    low_res: Float32[np.ndarray, "O C m m"]
    order: Int[np.ndarray, "O C"]


def rank(prediction: Prediction) -> Ranked:
    """Sort the candidates of ``SamPredictor.predict_many`` by falling score."""
    order = np.argsort(-prediction.scores, axis=1, kind="stable")
    rows = np.arange(len(order))[:, None]
    masks, scores, low_res = (part[rows, order] for part in prediction)
    return Ranked(masks, scores, low_res, order)


@dataclass(frozen=True)
class Names:
    """Hold the file names of one image's results; ``masks`` by object, then by rank."""

    masks: tuple[tuple[str, ...], ...]
    arrays: str
    record: str
    overlay: str

    def __iter__(self) -> Iterator[str]:
        for names in self.masks:
            yield from names
        yield from (self.arrays, self.overlay, self.record)


def result_names(stem: str, objects: int, candidates: int, *, numbered: bool = False) -> Names:
    """Name the files of image ``stem``; ``numbered``: a single object has its 1 too."""
    alone = objects == 1 and not numbered
    starts = [stem] if alone else [f"{stem}_object{i + 1}" for i in range(objects)]
    masks = tuple(tuple(f"{s}_mask_{j + 1}.png" for j in range(candidates)) for s in starts)
    return Names(masks, f"{stem}_masks.npz", f"{stem}.json", f"{stem}_overlay.png")


def plan(
    images: Sequence[Path],
    out: Path,
    objects: int | None,
    candidates: int,
    *,
    overwrite: bool,
    keep: Sequence[Path] = (),
) -> list[Names]:
    """Return the names of every image's results, if they can all be written.

    Never one of ``images`` or ``keep``, the inputs, also where results may be replaced.
    ``objects`` None: their number is not known yet; the names are then those of no object, and
    masks of any number of objects must be free.

    Raises:
        SamjaxError: two images with the same names, existing results, or an unusable folder.
    """
    check_folder(out)
    planned = [result_names(image.stem, objects or 0, candidates) for image in images]
    owner: dict[str, Path] = {}
    for image, names in zip(images, planned, strict=True):
        possible = _masks_of_objects(out, image.stem) if objects is None else []
        for name in (*names, *possible):
            other = owner.setdefault(name.casefold(), image)
            if other is not image:
                raise SamjaxError(
                    f"{other} and {image} would both write {out / name}; "
                    "run them one by one with different --out"
                )
            with protecting((*images, *keep)):
                check_outputs([out / name])
            if not overwrite and (out / name).exists():
                raise SamjaxError(f"{out / name} exists; choose another --out, or pass --overwrite")
    return planned


def _masks_of_objects(out: Path, stem: str) -> list[str]:
    """List files of ``out`` that have the name of a mask of one of any number of objects."""
    if not out.is_dir():
        return []
    ours = re.compile(re.escape(stem) + r"_object\d+_mask_\d+\.png")
    with output_errors(out):
        return sorted(path.name for path in out.iterdir() if ours.fullmatch(path.name))


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written to; makes nothing.

    Raises:
        SamjaxError: why not.
    """
    refuse_address(out)
    with output_errors(out):
        nearest = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise SamjaxError(f"--out {out}: {nearest} is a file, not a folder; choose another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SamjaxError(
            f"--out {out}: no permission to write in {nearest.absolute()}; choose another --out"
        )


def output_errors(out: Path) -> AbstractContextManager[None]:
    """Turn the errors of a disk into one line."""
    advice = "check permissions and free space, or choose another --out"
    return writing(f"--out {out}", advice=advice)


def write_results(
    out: Path,
    names: Names,
    ranked: Ranked,
    overlay: UInt8[np.ndarray, "H W 3"],
    record: dict[str, Any],
    by_object: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write all files under temporary names, then rename them, the JSON last.

    The arrays are C x H x W for one object, as ``SamPredictor.predict`` returns them, and
    O x C x H x W for several. With ``by_object``, further arrays of O rows, they keep the axis of
    the objects whatever their number.

    Raises:
        SamjaxError: the folder or disk does not take them; none is left.
    """
    arrays = {
        "masks": ranked.masks,
        "scores": ranked.scores,
        "low_res": ranked.low_res,
        "order": ranked.order,
    }
    if by_object is not None:
        arrays |= by_object
    elif len(ranked.masks) == 1:
        arrays = {key: value[0] for key, value in arrays.items()}
    with output_errors(out):
        earlier = _earlier_files(out / names.record)
        _write_all(out, names, ranked.masks, arrays, overlay, record)
        for name in earlier - set(names):
            if not is_input(out / name):
                (out / name).unlink(missing_ok=True)


def _write_all(
    out: Path,
    names: Names,
    masks: np.ndarray,
    arrays: dict[str, Any],
    overlay: np.ndarray,
    record: dict[str, Any],
) -> None:
    with ExitStack() as stack:

        def temporary(name: str) -> Path:
            return stack.enter_context(replacing(out / name))

        # Left in the opposite order: who finds the JSON finds the rest.
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        temporary(names.record).write_text(text + "\n", encoding="utf-8")
        write_png(temporary(names.overlay), overlay)
        with temporary(names.arrays).open("wb") as file:
            np.savez_compressed(file, **arrays)
        for object_names, candidates in zip(names.masks, masks, strict=True):
            for name, mask in zip(object_names, candidates, strict=True):
                write_png(temporary(name), mask.astype(np.uint8) * np.uint8(255))


def write_png(path: Path, array: UInt8[np.ndarray, "*shape"]) -> None:
    """Write a PNG whatever the ending of the temporary name."""
    with path.open("wb") as file:
        Image.fromarray(array).save(file, format="PNG")


def _earlier_files(record: Path) -> set[str]:
    """List masks that an earlier run wrote for this image, so that fewer leave none behind."""
    try:
        listed = json.loads(record.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, LookupError, TypeError):
        return set()
    ours = re.compile(re.escape(record.stem) + r"(_object\d+)?_mask_\d+\.png")
    names = listed if isinstance(listed, list) else []
    return {name for name in names if isinstance(name, str) and ours.fullmatch(name)}
