"""Declare ``samjax check``; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="A COCO JSON file, a YOLO data set, a folder of labelme files, of instance PNGs "
            "or of class PNGs, or the output of samjax automask.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the images.",
            show_default="images/ beside the annotations, or where each file says",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="F",
            help="automask, coco, labelme, png, semantic or yolo.",
            show_default="found out",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write check.html and check.png, pictures of the worst, there."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--sheet-count", metavar="N", min=1, help="Pictures on the sheet.")
    ] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    min_region_area: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Parts, holes and masks of fewer pixels are findings."
        ),
    ] = 25,
    overlap: Annotated[
        float,
        typer.Option(
            metavar="S", min=0, max=1, help="Share of the smaller mask that two may have in common."
        ),
    ] = 0.2,
    duplicate: Annotated[
        float,
        typer.Option(metavar="IOU", min=0, max=1, help="IoU from which two masks are the same."),
    ] = 0.9,
    box_iou: Annotated[
        float,
        typer.Option(
            metavar="IOU", min=0, max=1, help="IoU that a box and its mask's box must reach."
        ),
    ] = 0.8,
) -> None:
    """Check the masks of a data set; nothing is changed.

    Finds overlaps, duplicates and copies, masks inside others, specks and small holes, masks that
    touch the border, empty and missing ones, boxes that are not their mask's, images without
    objects, missing images, images of another size, and files with the same content; counts
    masks and images of each class. In a folder of samjax segment-dataset it shows the objects of
    review.json, whose scores are low, too. --json and the sheet have every finding's object.

    Exit code 0, also with findings; 2 if something cannot be read.
    """
    from samjax.commands.run_check import CheckJob, run_check

    limits = (min_region_area, overlap, duplicate, box_iou)
    run_check(CheckJob(annotations, images, format, sheet, count, as_json, limits))
