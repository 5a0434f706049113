"""Write the output folder of ``samjax automask``, image by image, so that a kill loses nothing.

An image's record comes last of its files, all of which are made in a hidden folder and moved,
and the files for the whole data set are made from the records alone. Nothing depends on time or
order, so that equal runs give equal bytes. Files that samjax did not write are not replaced.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
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
from samjax.commands.image_record import (
    CATEGORIES,
    FOLDERS,
    PER_IMAGE,
    RECORDS,
    foreign_files,
    image_file,
    listed_files,
    pending_path,
    read_header,
    record_path,
    record_text,
    whole_header,
)
from samjax.commands.results import write_png
from samjax.commands.run_file import COCO, RUN, YOLO, check_run, earlier_entries, run_digest
from samjax.errors import ImageError, SamjaxError
from samjax.files import check_outputs
from samjax.image.folder import Found
from samjax.jobs.contents import FileState, file_state, has_state
from samjax.viz.automatic import draw_masks


def is_output(out: Path, path: Path) -> bool:
    """Return whether ``path`` is a folder that a `ResultFolder` wrote in ``out``."""
    if path.name not in FOLDERS or path.parent.resolve() != out.resolve():
        return False
    return path.name in earlier_entries(out)


class ResultFolder:
    """Write and read the output folder of one run.

    Args:
        out: the folder.
        staging: a folder on the same disk, for files that are not finished; see `staging`.
        run: settings, weights and source of the images: the content of the run file.
        formats: of `FORMATS`.
        overlay: also write a picture of all masks of each image.
        replaces: ask of a file that samjax did not write whether it may be replaced.
    """

    def __init__(
        self,
        out: Path,
        staging: Path,
        run: dict[str, Any],
        formats: Sequence[str],
        overlay: bool,
        replaces: Callable[[Path], bool] = lambda _: False,
    ):
        self._replaces = replaces
        self.out, self._staging, self._run = out, staging, run
        self._formats, self._overlay = tuple(formats), overlay
        self._digest = run_digest(run)

    def start(self) -> None:
        """Write the run file, if it is not there.

        Raises:
            SamjaxError: another process was faster, with other settings.
        """
        temporary = self._staged_run()
        target = self.out / RUN
        if not target.exists():
            try:
                os.link(temporary, target)
            except FileExistsError:
                pass
            except OSError:  # a disk without links
                temporary.replace(target)
        temporary.unlink(missing_ok=True)
        check_run(self.out, self._run, self._formats, self._overlay)

    def _staged_run(self) -> Path:
        temporary = self._staging / RUN
        temporary.write_text(json.dumps(self._run, indent=2) + "\n", encoding="utf-8")
        return temporary

    def is_done(self, image: Found) -> bool:
        """Return whether this image, with these settings, needs no more work."""
        header = whole_header(record_path(self.out, image.name))
        if header is None or header["run"] != self._digest:
            return False
        if not all((self.out / file).is_file() for file in header.get("files", ())):
            return False  # somebody removed what was written
        pending_path(self.out, image.name).unlink(missing_ok=True)
        try:
            return has_state(image.path, FileState(header.get("bytes", -1), header.get("hash", "")))
        except (OSError, ImageError):
            return False  # reading it will say why

    def foreign(self, name: str) -> list[Path]:
        """Return the files of an image that samjax did not write, or that were changed since."""
        return [self.out / file for file in foreign_files(self.out, name, self._files(name))]

    def check_foreign(self, name: str, made: Path | None = None) -> None:
        """Refuse an image one of whose files would replace one that samjax did not write.

        Args:
            name: of the image.
            made: folder with the new files, once they are there: equal ones replace nothing.

        Raises:
            SamjaxError: which file.
        """
        for file in foreign_files(self.out, name, self._files(name), made):
            path = self.out / file
            if not self._replaces(path):
                raise SamjaxError(
                    f"{name}: {path} was not written by samjax, or was changed since: remove it "
                    "or move it away, or choose another --out"
                )

    def _files(self, name: str) -> list[str]:
        keys = [*self._formats, *["overlay"] * self._overlay]
        return [image_file(key, name) for key in keys if key in PER_IMAGE]

    def write(
        self,
        image: Found,
        file: FileState,
        size: tuple[int, int],
        records: Sequence[dict[str, Any]],
        pixels: UInt8[np.ndarray, "H W 3"] | None,
    ) -> None:
        """Write all files of one image, the record last.

        Args:
            image: which.
            file: state of its file, taken before it was read.
            size: (H, W) in pixels.
            records: of the automatic mask generator.
            pixels: the image, if it is to be drawn.

        Raises:
            AnnotationError: more masks than a label map can hold.
            SamjaxError: a file that samjax did not write is in the way. OSError: the disk.
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
            "bytes": file.bytes,
            "hash": file.hash,
            "run": self._digest,
            "files": written,
            "hashes": [file_state(work / name).hash for name in written],
        }
        self.check_foreign(image.name, work)
        record = work / "record"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(record_text(header, size, records), encoding="ascii")
        pending = pending_path(self.out, image.name)
        if written:
            _move(Path(shutil.copy(record, work / "pending")), pending)
        for name in written:
            _move(work / name, self.out / name)
        _move(record, record_path(self.out, image.name))
        pending.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)

    def discard(self, name: str) -> None:
        """Remove the files of one image, if there are any, the record last.

        Those that samjax did not write, or that were changed since, stay.
        """
        record, pending = record_path(self.out, name), pending_path(self.out, name)
        headers = [header for path in (record, pending) if (header := read_header(path))]
        files = {file for header in headers for file in listed_files(header, FOLDERS)}
        for file in files - set(foreign_files(self.out, name, files)):
            check_outputs([self.out / file])
            (self.out / file).unlink(missing_ok=True)
        if headers:
            record.unlink(missing_ok=True)
            pending.unlink(missing_ok=True)

    def clear(self, names: Sequence[str] | None) -> None:
        """Remove the files of these images and renew the run file; None: of all images."""
        for name in self._names() if names is None else names:
            self.discard(name)
        if names is None:
            for file in {COCO, YOLO} & earlier_entries(self.out):
                (self.out / file).unlink(missing_ok=True)
            for folder in FOLDERS:
                _prune(self.out / folder)
        _move(self._staged_run(), self.out / RUN)

    def assemble(self) -> None:
        """Assemble the files of the whole data set from all records; unchanged ones stay untouched.

        Several processes may do so: the last one takes in what the others wrote meanwhile.
        """
        if "yolo" in self._formats:
            write_yolo(self._staging, [], CATEGORIES)
            _install(self._staging / YOLO, self.out / YOLO)
        names = None
        while "coco" in self._formats and names != (now := self._names()):
            names = now
            self._write_coco(names)
            _install(self._staging / COCO, self.out / COCO)

    def _write_coco(self, names: Sequence[str]) -> None:
        """Write COCO as `annotations.write_coco` does, with one image in memory at a time."""
        headers = ((name, whole_header(record_path(self.out, name))) for name in names)
        done = [name for name, header in headers if header and header["run"] == self._digest]
        parts: dict[str, Iterator[str]] = {
            "images": self._image_entries(done),
            "annotations": self._annotation_entries(done),
        }
        with (self._staging / COCO).open("w", encoding="ascii", newline="\n") as file:
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
            header = read_header(record_path(self.out, name)) or {}
            size = (header["height"], header["width"])
            (entry,) = coco_dataset([(header["image"], size, [])], CATEGORIES)["images"]
            yield json.dumps({**entry, "id": number}, separators=(",", ":"))

    def _annotation_entries(self, names: Sequence[str]) -> Iterator[str]:
        number = 0
        for image, name in enumerate(names, 1):
            with record_path(self.out, name).open(encoding="ascii") as file:
                for line in list(file)[1:-1]:
                    number += 1
                    entry = line.rstrip(",\n").removeprefix("{")
                    yield f'{{"id":{number},"image_id":{image},{entry}'

    def _names(self) -> list[str]:
        """Return the names of all images that have a record, sorted."""
        top = self.out / RECORDS
        found = (
            (Path(place) / file).relative_to(top).as_posix()
            for place, _, files in os.walk(top)
            for file in files
        )
        return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))

    def _record(self, name: str) -> Path:
        return self.out / RECORDS / f"{name}.json"

    def _file(self, key: str, name: str) -> str:
        return image_file(key, name) if key in PER_IMAGE else ""


def check_names(out: Path, images: Sequence[Found], formats: Sequence[str], overlay: bool) -> None:
    """Refuse images that would write the same files, and files that are inputs.

    Raises:
        SamjaxError: which, and where.
    """
    for image in images:
        keys = [k for k in (*formats, *["overlay"] * overlay) if k in PER_IMAGE]
        check_outputs(out / image_file(k, image.name) for k in keys)
    check_outputs(out / name for name in (RUN, COCO, YOLO))
    key = next((k for k in (*formats, *["overlay"] * overlay) if k in PER_IMAGE), None)
    owner: dict[str, Found] = {}
    for image in images:
        file = f"{RECORDS}/{image.name}.json" if key is None else image_file(key, image.name)
        other = owner.setdefault(file.casefold(), image)
        if other is not image:
            raise SamjaxError(
                f"{other.path} and {image.path} would both write {out / file}; rename one, or "
                "run them one by one with different --out"
            )


def _move(source: Path, target: Path) -> None:
    check_outputs([target])
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
