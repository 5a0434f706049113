"""Keep what each tile gave beside the target, so that a run goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from samjax.errors import RasterError
from samjax.files import check_foreign, made_folder, replacing, writing
from samjax.geo.raster import Tile
from samjax.geo.seams import Found

_PLAN = "plan.json"
_OURS = re.compile(r"(\d{6,}|plan)\.json|\.(\d{6,}|plan)\.json\.[0-9a-f]{32}\.tmp")


class Parts:
    """The folder NAME.parts of a target, one file for each finished tile."""

    def __init__(self, target: Path, plan: dict[str, Any]):
        self._folder = target.with_name(f"{target.name}.parts")
        self._target, self._plan = target, plan

    def start(self, *, overwrite: bool) -> None:
        """Make the folder, or go on in that of an earlier run.

        Raises:
            RasterError: that run had other settings, the folder cannot be written, or something
                lies in it that is of no run: nothing is deleted then.
        """
        plan = self._folder / _PLAN
        wanted = json.dumps(self._plan, indent=1, sort_keys=True)
        self._check_ours()
        if overwrite:
            self.remove()
        if plan.exists():
            earlier = plan.read_text("utf-8")
            if earlier != wanted:
                raise RasterError(
                    f"{self._folder} holds tiles of a run with {self._difference(earlier)}: run "
                    "that again, or pass overwrite=True to begin anew"
                )
            return
        made_folder(self._folder, RasterError)
        with writing(plan, RasterError), replacing(plan) as temporary:
            temporary.write_text(wanted, "utf-8")

    def _check_ours(self) -> None:
        """Refuse a folder that holds anything but tiles and the plan of a run."""
        if not os.path.lexists(self._folder):
            return
        if self._folder.is_symlink() or not self._folder.is_dir():
            raise RasterError(
                f"{self._folder}: the tiles would go there, and it is a link or a file: move it "
                "away, or choose another target"
            )
        found = sorted(self._folder.iterdir())
        others = [path for path in found if not _is_tile(path)]
        finished = [path for path in found if path.suffix == ".json"]
        if finished and not _is_plan(self._folder / _PLAN):
            others += finished
        check_foreign(others, lambda _: False, RasterError)

    def _difference(self, earlier: str) -> str:
        try:
            before = json.loads(earlier)
            names = [name for name in self._plan if before.get(name) != self._plan[name]]
        except (ValueError, AttributeError):
            names = []
        return f"another {' and '.join(names)}" if names else "other settings"

    def has(self, tile: Tile) -> bool:
        """Tell whether a tile is finished."""
        return self._path(tile).exists()

    def save(self, tile: Tile, found: Sequence[Found]) -> None:
        """Keep a tile's objects; it is finished then.

        Raises:
            RasterError: the file cannot be written.
        """
        import shapely

        rows = [
            {
                "wkb": shapely.to_wkb(each.geometry, hex=True),
                "score": each.score,
                "stability": each.stability,
                "owned": each.owned,
                "cut": each.cut,
            }
            for each in found
        ]
        path = self._path(tile)
        with writing(path, RasterError), replacing(path) as temporary:
            temporary.write_text(json.dumps(rows), "utf-8")

    def load(self, tile: Tile) -> list[Found]:
        """Return a finished tile's objects.

        Raises:
            RasterError: the file was damaged.
        """
        import shapely

        path = self._path(tile)
        try:
            return [
                Found(
                    shapely.from_wkb(row["wkb"]),
                    float(row["score"]),
                    float(row["stability"]),
                    tile.number,
                    tile.window,
                    bool(row["owned"]),
                    bool(row["cut"]),
                )
                for row in json.loads(path.read_text("utf-8"))
            ]
        except (ValueError, KeyError, TypeError, shapely.errors.GEOSException) as error:
            raise RasterError(
                f"{path} is damaged ({type(error).__name__}): delete it, and run again"
            ) from None

    def remove(self) -> None:
        """Delete the tiles, the plan last, and the folder unless something else lies in it."""
        if self._folder.is_dir():
            with writing(self._folder, RasterError):
                for path in [*self._tiles(), self._folder / _PLAN]:
                    path.unlink(missing_ok=True)
                with suppress(OSError):  # somebody put a file there meanwhile
                    self._folder.rmdir()

    def _tiles(self) -> Iterator[Path]:
        found = [path for path in self._folder.iterdir() if _is_tile(path)]
        return (path for path in found if path.name != _PLAN)

    def _path(self, tile: Tile) -> Path:
        return self._folder / f"{tile.number:06d}.json"


def _is_tile(path: Path) -> bool:
    """Tell whether a file has a name that `Parts` gives: a tile, the plan, or an unfinished one."""
    return bool(_OURS.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def _is_plan(path: Path) -> bool:
    """Tell whether a file is the plan of a run, of whatever settings."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"source", "tile", "halo", "bands"} <= found.keys()
