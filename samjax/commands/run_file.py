"""Tell the run file of ``samjax automask``, and files of others in its output folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samjax.commands.image_record import PER_IMAGE, RECORDS
from samjax.errors import SamjaxError
from samjax.jobs.contents import hash_values

RUN, COCO, YOLO = "run.json", "annotations.json", "data.yaml"
_FREE = ("samjax", "model", "origin")  # of the run file: told, not compared
_NO_OPTIONS = ("images", "weights")  # of the run file; the others are options of the command


def run_digest(run: dict[str, Any]) -> str:
    """Return a hash of what two runs must have in common to share results."""
    compared = {key: value for key, value in run.items() if key not in _FREE}
    return hash_values(compared, 8)


def check_run(out: Path, run: dict[str, Any], formats: Sequence[str], overlay: bool) -> None:
    """Refuse a folder with results of another run, or with files that are not ours.

    Args:
        out: the folder.
        run: the content of the run file, or as much of it as is known yet.
        formats, overlay: what will be written.

    Raises:
        SamjaxError: what differs.
    """
    path = out / RUN
    advice = "choose another --out, or pass --overwrite to start anew"
    if not path.exists():
        for top in _entries(formats, overlay):
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


def check_anew(out: Path, root: Path, formats: Sequence[str], overlay: bool) -> None:
    """Refuse to start anew over what no run of samjax wrote, if it lies with the images.

    Args:
        out: the output folder.
        root: the folder of the images, whose other files are never replaced.
        formats, overlay: what will be written.

    Raises:
        SamjaxError: which file or folder.
    """
    ours = earlier_entries(out)
    for top in (*_entries(formats, overlay), RUN):
        path = out / top
        if top not in ours and path.exists() and lies_in(path, root):
            raise SamjaxError(
                f"{path} lies with the images and was not written by samjax: --overwrite does not "
                "replace it; move it away, or choose another --out"
            )


def earlier_entries(out: Path) -> set[str]:
    """Return the files and folders of ``out`` that its earlier run wrote; none without a run."""
    try:
        run = json.loads((out / RUN).read_text(encoding="utf-8"))
        if not isinstance(run["samjax"], str):
            return set()
        return {RUN, *_entries(run["format"], run["overlay"])}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def lies_in(path: Path, folder: Path) -> bool:
    """Tell whether a path is below a folder, with links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _entries(formats: Sequence[str], overlay: bool) -> list[str]:
    """Return the files and folders that a run with these formats writes beside its run file."""
    tops = [RECORDS, *(PER_IMAGE[key][0] for key in formats if key in PER_IMAGE)]
    tops += [COCO] * ("coco" in formats) + [YOLO] * ("yolo" in formats)
    return tops + [PER_IMAGE["overlay"][0]] * bool(overlay)


def _option(key: str) -> str:
    return key if key in _NO_OPTIONS else "--" + key.replace("_", "-")


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)
