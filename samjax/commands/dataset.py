"""The folder that ``samjax automask`` writes, image by image, so that it can be killed any time.

``records/NAME.json`` says that an image is done. Its first line describes the image, each further
line is one mask as a COCO annotation without numbers. It comes last of an image's files, all of
which are made in a hidden folder and moved, and the files for the whole data set are made from
the records alone. Nothing depends on time or order, so that equal runs give equal bytes.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import UInt8

from samjax.annotations import (
    coco_dataset,
    to_label_map,
    write_label_png,
    write_npz,
    write_yolo,
)
from samjax.commands.folder import Found
from samjax.commands.results import write_png
from samjax.errors import SamjaxError
from samjax.viz_masks import draw_masks

FORMATS = ("coco", "yolo", "png", "npz")
CATEGORIES = ("object",)

_RUN, _COCO, _YOLO = "run.json", "annotations.json", "data.yaml"
_RECORDS = "records"
# Format to folder and suffix of the files of one image.
_PER_IMAGE = {
    "yolo": ("labels", ".txt"),
    "png": ("label_maps", ".png"),
    "npz": ("npz", ".npz"),
    "overlay": ("overlays", ".png"),
}
_FOLDERS = (_RECORDS, *(folder for folder, _ in _PER_IMAGE.values()))
_FREE = ("samjax", "model")  # of the run file: told, not compared
_NO_OPTIONS = ("images", "weights")  # of the run file; the others are options of the command
_DIGITS = 6


def is_output(out: Path, path: Path) -> bool:
    """Whether ``path`` is one of the folders that `ResultFolder` writes in ``out``."""
    return path.name in _FOLDERS and path.parent == out.absolute()


class ResultFolder:
    """The output folder of one run.

    Args:
        out: the folder.
        staging: a folder on the same disk, for files that are not finished; see `staging`.
        run: settings, weights and source of the images: the content of the run file.
        formats: of `FORMATS`.
        overlay: also write a picture of all masks of each image.
    """

    def __init__(
        self,
        out: Path,
        staging: Path,
        run: dict[str, Any],
        formats: Sequence[str],
        overlay: bool,
    ):
        self.out, self._staging, self._run = out, staging, run
        self._formats, self._overlay = tuple(formats), overlay
        compared = {key: value for key, value in run.items() if key not in _FREE}
        code = json.dumps(compared, sort_keys=True).encode()
        self._digest = hashlib.blake2b(code, digest_size=8).hexdigest()

    def start(self) -> None:
        """Write the run file, if it is not there.

        Raises:
            SamjaxError: another process was faster, with other settings.
        """
        text = json.dumps(self._run, indent=2) + "\n"
        temporary = self._staging / _RUN
        temporary.write_text(text, encoding="utf-8")
        target = self.out / _RUN
        if not target.exists():
            try:
                os.link(temporary, target)
            except FileExistsError:
                pass
            except OSError:  # a disk without links
                temporary.replace(target)
        temporary.unlink(missing_ok=True)
        check_run(self.out, self._run, self._formats, self._overlay)

    def is_done(self, image: Found) -> bool:
        """Whether this image, with these settings, needs no more work."""
        header = _header(self._record(image.name))
        if header is None or header.get("run") != self._digest:
            return False
        try:
            return header.get("bytes") == image.path.stat().st_size
        except OSError:
            return False  # reading it will say why

    def write(
        self,
        image: Found,
        file_bytes: int,
        size: tuple[int, int],
        records: Sequence[dict[str, Any]],
        pixels: UInt8[np.ndarray, "H W 3"] | None,
    ) -> None:
        """All files of one image, the record last.

        Args:
            image: which.
            file_bytes: length of its file.
            size: (H, W) in pixels.
            records: of the automatic mask generator.
            pixels: the image, if it is to be drawn.

        Raises:
            AnnotationError: more masks than a label map can hold. OSError: the disk.
        """
        work = self._staging / uuid4().hex
        files = {key: self._file(key, image.name) for key in (*self._formats, "overlay")}
        if "yolo" in self._formats:
            write_yolo(work, [(image.name, size, records)], CATEGORIES)
        if "png" in self._formats:
            write_label_png(work / files["png"], to_label_map(records, size))
        if "npz" in self._formats:
            write_npz(work / files["npz"], size, records)
        if self._overlay and pixels is not None:
            path = work / files["overlay"]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, draw_masks(pixels, records))
        written = sorted(f for f in files.values() if f and (work / f).exists())
        header = {
            "image": image.name,
            "width": size[1],
            "height": size[0],
            "bytes": file_bytes,
            "run": self._digest,
            "files": written,
        }
        record = work / "record"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(_record_text(header, size, records), encoding="ascii")
        for file in written:
            _move(work / file, self.out / file)
        _move(record, self._record(image.name))
        shutil.rmtree(work, ignore_errors=True)

    def discard(self, name: str) -> None:
        """Remove the files of one image, if there are any, the record first."""
        record = self._record(name)
        header = _header(record)
        if header is None:
            return
        record.unlink(missing_ok=True)
        for file in header.get("files", ()):
            parts = PurePosixPath(file).parts
            if parts[0] in _FOLDERS and ".." not in parts:
                (self.out / file).unlink(missing_ok=True)

    def clear(self, names: Sequence[str] | None) -> None:
        """Remove the files of these images and the run file; None: of all images."""
        for name in self._names() if names is None else names:
            self.discard(name)
        if names is None and (self.out / _RUN).exists():
            for file in (_COCO, _YOLO):
                (self.out / file).unlink(missing_ok=True)
            for folder in _FOLDERS:
                _prune(self.out / folder)
        (self.out / _RUN).unlink(missing_ok=True)

    def assemble(self) -> None:
        """The files of the whole data set, from all records; untouched where nothing changed.

        Several processes may do so: the last one takes in what the others wrote meanwhile.
        """
        if "yolo" in self._formats:
            write_yolo(self._staging, [], CATEGORIES)
            _install(self._staging / _YOLO, self.out / _YOLO)
        names = None
        while "coco" in self._formats and names != (now := self._names()):
            names = now
            self._write_coco(names)
            _install(self._staging / _COCO, self.out / _COCO)

    def _write_coco(self, names: Sequence[str]) -> None:
        """As `samjax.annotations.write_coco`, with one image in memory at a time."""
        headers = ((name, _header(self._record(name))) for name in names)
        done = [name for name, header in headers if header and header["run"] == self._digest]
        parts: dict[str, Iterator[str]] = {
            "images": self._image_entries(done),
            "annotations": self._annotation_entries(done),
        }
        with (self._staging / _COCO).open("w", encoding="ascii", newline="\n") as file:
            opening = "{"
            for key, value in coco_dataset([], CATEGORIES).items():
                file.write(f"{opening}{json.dumps(key)}:")
                opening = ",\n"
                if key not in parts:
                    file.write(json.dumps(value, separators=(",", ":")))
                    continue
                comma = "["
                for entry in parts[key]:
                    file.write(f"{comma}\n{entry}")
                    comma = ","
                file.write("[]" if comma == "[" else "\n]")
            file.write("}\n")

    def _image_entries(self, names: Sequence[str]) -> Iterator[str]:
        for number, name in enumerate(names, 1):
            header = _header(self._record(name)) or {}
            size = (header["height"], header["width"])
            (entry,) = coco_dataset([(header["image"], size, [])], CATEGORIES)["images"]
            yield json.dumps({**entry, "id": number}, separators=(",", ":"))

    def _annotation_entries(self, names: Sequence[str]) -> Iterator[str]:
        number = 0
        for image, name in enumerate(names, 1):
            with self._record(name).open(encoding="ascii") as file:
                for line in list(file)[1:-1]:
                    number += 1
                    entry = line.rstrip(",\n").removeprefix("{")
                    yield f'{{"id":{number},"image_id":{image},{entry}'

    def _names(self) -> list[str]:
        """Names of all images that have a record, sorted."""
        top = self.out / _RECORDS
        found = (
            (Path(place) / file).relative_to(top).as_posix()
            for place, _, files in os.walk(top)
            for file in files
        )
        return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))

    def _record(self, name: str) -> Path:
        return self.out / _RECORDS / f"{name}.json"

    def _file(self, key: str, name: str) -> str:
        return image_file(key, name) if key in _PER_IMAGE else ""


def image_file(key: str, name: str) -> str:
    """The file of a format, or "overlay", for the image ``name``, relative to the output."""
    folder, suffix = _PER_IMAGE[key]
    return str(PurePosixPath(folder) / PurePosixPath(name).with_suffix(suffix))


def check_names(out: Path, images: Sequence[Found], formats: Sequence[str], overlay: bool) -> None:
    """Refuse images that would write the same files.

    Raises:
        SamjaxError: which, and where.
    """
    key = next((k for k in (*formats, *["overlay"] * overlay) if k in _PER_IMAGE), None)
    owner: dict[str, Found] = {}
    for image in images:
        file = f"{_RECORDS}/{image.name}.json" if key is None else image_file(key, image.name)
        other = owner.setdefault(file.casefold(), image)
        if other is not image:
            raise SamjaxError(
                f"{other.path} and {image.path} would both write {out / file}; rename one, or "
                "run them one by one with different --out"
            )


def check_run(out: Path, run: dict[str, Any], formats: Sequence[str], overlay: bool) -> None:
    """Refuse a folder with results of another run, or with files that are not ours.

    Args:
        out: the folder.
        run: the content of the run file, or as much of it as is known yet.
        formats, overlay: what will be written.

    Raises:
        SamjaxError: what differs.
    """
    path = out / _RUN
    advice = "choose another --out, or pass --overwrite to start anew"
    if not path.exists():
        tops = [_RECORDS, *(_PER_IMAGE[key][0] for key in formats if key in _PER_IMAGE)]
        tops += [_COCO] * ("coco" in formats) + [_YOLO] * ("yolo" in formats)
        tops += [_PER_IMAGE["overlay"][0]] * overlay
        for top in tops:
            if (out / top).exists():
                raise SamjaxError(f"{out / top} exists and is not of an earlier run; {advice}")
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        differences = [
            f"{_option(key)} {_told(earlier[key])}, now {_told(value)}"
            for key, value in run.items()
            if key not in _FREE and earlier[key] != value
        ]
    except (ValueError, LookupError, TypeError):
        raise SamjaxError(f"{path} is damaged or of another version; {advice}") from None
    if differences:
        raise SamjaxError(
            f"--out {out} holds masks made with other settings ({'; '.join(differences)}); "
            f"use the same ones, {advice}"
        )


def _option(key: str) -> str:
    return key if key in _NO_OPTIONS else "--" + key.replace("_", "-")


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _record_text(
    header: dict[str, Any], size: tuple[int, int], records: Sequence[dict[str, Any]]
) -> str:
    rounded = [{key: _rounded(value) for key, value in record.items()} for record in records]
    dataset = coco_dataset([(header["image"], size, rounded)], CATEGORIES)
    lines = []
    for annotation in dataset["annotations"]:
        entry = {k: v for k, v in annotation.items() if k not in ("id", "image_id")}
        lines.append(json.dumps(entry, separators=(",", ":"), allow_nan=False))
    first = json.dumps(header)[:-1]
    return f'{first}, "masks": [\n' + ",\n".join(lines) + "\n" * bool(lines) + "]}\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


def _header(record: Path) -> dict[str, Any] | None:
    """The first line of a record; None if it is not there or not ours."""
    try:
        with record.open(encoding="ascii") as file:
            header = json.loads(file.readline() + "]}")
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and "run" in header else None


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _install(source: Path, target: Path) -> None:
    """Move a file to its place, unless the same is there."""
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        source.unlink()
    else:
        _move(source, target)


def _prune(folder: Path) -> None:
    """Remove folders in which nothing is left."""
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(place).rmdir()
