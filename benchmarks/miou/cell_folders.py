"""Read BBBC038 as published: a folder for each image, with a mask picture of each nucleus."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.miou.folder_files import IMAGES, load_targets, merged
from benchmarks.miou.samples import Dataset, Entry
from samjax.errors import AnnotationError


def has_cell_folders(root: Path) -> bool:
    """Tell whether ``root`` holds folders with ``images`` and ``masks`` in them (stage1_train)."""
    return root.is_dir() and any(_is_cell_folder(path) for path in root.iterdir())


def _is_cell_folder(path: Path) -> bool:
    return (path / "images").is_dir() and (path / "masks").is_dir()


def open_cell_folders(root: Path) -> Dataset:
    """Open ``root/ID/images/ID.png`` with ``root/ID/masks/*.png``, one object per mask file.

    Raises:
        AnnotationError: there is no such folder.
    """
    folders = sorted(p for p in root.iterdir() if _is_cell_folder(p)) if root.is_dir() else []
    entries = []
    for folder in folders:
        images = [p for p in sorted((folder / "images").iterdir()) if p.suffix.lower() in IMAGES]
        masks = [p for p in sorted((folder / "masks").iterdir()) if p.suffix.lower() in IMAGES]
        if len(images) != 1:
            raise AnnotationError(f"{folder}/images: holds {len(images)} images, not one")
        entries.append(Entry(folder.name, images[0], partial(load_targets, masks, merged, False)))
    if not entries:
        raise AnnotationError(
            f"{root}: no folder here holds images/ and masks/, as BBBC038's stage1_train has them"
        )
    return Dataset("/".join(root.parts[-2:]), "bbbc038", entries)
