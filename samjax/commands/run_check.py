"""Run ``samjax check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from samjax.annotations.check import CheckReport, check_dataset
from samjax.annotations.quality import Limits
from samjax.annotations.sources import Annotated
from samjax.errors import SamjaxError
from samjax.files import made_folder, protecting, writing
from samjax.viz.contact_sheet import check_sheet, write_contact_sheet


@dataclass(frozen=True)
class CheckJob:
    """Hold the options of one run; see ``samjax check --help``; ``limits`` are of `Limits`."""

    annotations: Path
    images: Path | None = None
    format: str | None = None
    sheet: Path | None = None
    count: int = 24
    as_json: bool = False
    limits: tuple[int, float, float, float] = (25, 0.2, 0.9, 0.8)


def run_check(job: CheckJob) -> None:
    """Print the report on stdout and write the sheet, if one is wanted.

    Raises:
        SamjaxError: something cannot be read or written.
    """
    if job.sheet is not None:
        _refuse_data_set(job.sheet, job.annotations)
        check_sheet(job.sheet)
    report = check_dataset(
        job.annotations,
        job.images,
        format=job.format,
        limits=Limits(*job.limits),
        progress=_progress,
    )
    if job.as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for line in report.rows():
            print(line)
    if job.sheet is not None:
        _write_sheet(report, job.sheet, job.count)


def _progress(images: Iterator[Annotated]) -> Iterator[Annotated]:
    """Show progress on a terminal."""
    return iter(tqdm(images, unit=" images", disable=not sys.stderr.isatty(), leave=False))


def _refuse_data_set(sheet: Path, annotations: Path) -> None:
    """Refuse a sheet in a data set's folder, of which a later check would take it for a part."""
    if annotations.is_dir() and sheet.resolve().is_relative_to(annotations.resolve()):
        raise SamjaxError(f"--sheet {sheet}: lies in {annotations}; choose a folder outside")


def _write_sheet(report: CheckReport, sheet: Path, count: int) -> None:
    inputs = [report.path] if report.path.is_file() else []
    with protecting(inputs), writing(f"--sheet {sheet}"):
        page, picture = write_contact_sheet(report, made_folder(sheet), count)
    print(f"samjax: the worst findings are shown in {page} and {picture}", file=sys.stderr)
