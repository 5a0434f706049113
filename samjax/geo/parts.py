"""Keep what each tile gave beside the target, so that a run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samjax.errors import RasterError
from samjax.files import made_folder, replacing, writing
from samjax.geo.raster import Tile
from samjax.geo.seams import Found

_PLAN = "plan.json"


class Parts:
    """The folder NAME.parts of a target, one file for each finished tile."""

    def __init__(self, target: Path, plan: dict[str, Any]):
        self._folder = target.with_name(f"{target.name}.parts")
        self._target, self._plan = target, plan

    def start(self, *, overwrite: bool) -> None:
        """Make the folder, or go on in that of an earlier run.

        Raises:
            RasterError: that run had other settings, or the folder cannot be written.
        """
        plan = self._folder / _PLAN
        wanted = json.dumps(self._plan, indent=1, sort_keys=True)
        if overwrite or (self._folder.is_dir() and not plan.exists()):
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
        """Delete the folder."""
        if self._folder.is_dir():
            with writing(self._folder, RasterError):
                shutil.rmtree(self._folder)

    def _path(self, tile: Tile) -> Path:
        return self._folder / f"{tile.number:06d}.json"
