"""Checkpoints on the command line: a name or a path to a model, a file, another file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from samjax.checkpoint import hub
from samjax.checkpoint.convert import convert
from samjax.checkpoint.describe import describe, megabytes
from samjax.checkpoint.families import Options
from samjax.devices import choose_dtype
from samjax.engine import (
    Segmenter,
    embedded_path,
    load,
    load_options,
    locate,
)
from samjax.errors import CheckpointError, CheckpointWarning
from samjax.preprocess import get_preset

EMBEDDED = "embedded"


def check_model(model: str) -> str | None:
    """What ``samjax.load`` takes for a name or path on the command line.

    Raises:
        CheckpointError: neither a name nor a path that exists.
    """
    if model == EMBEDDED:
        return None
    if model not in hub.OFFICIAL and not Path(model).expanduser().exists():
        names = ", ".join([EMBEDDED, *hub.OFFICIAL])
        raise CheckpointError(
            f"{model}: no such file or folder, and not a model's name ({names}); check the path"
        )
    return model


@dataclass(frozen=True)
class About:
    """What the command line says about a checkpoint: --base, --preprocess and the like."""

    base: str | None = None
    preprocess: str | None = None
    image_size: int | None = None
    lora_layers: str | None = None

    def check(self) -> None:
        """Refuse what can be refused without reading a checkpoint.

        Raises:
            SamjaxError: an unknown preset or base, or layers that are not numbers.
        """
        if self.preprocess is not None:
            get_preset(self.preprocess)
        if self.base is not None:
            check_model(self.base)
        self.layers()

    def layers(self) -> tuple[int, ...] | None:
        """--lora-layers as numbers."""
        if self.lora_layers is None:
            return None
        try:
            return tuple(int(part) for part in self.lora_layers.split(","))
        except ValueError:
            raise CheckpointError(
                f"--lora-layers {self.lora_layers!r}: give numbers of blocks, such as 0,1,4"
            ) from None

    def options(self) -> Options:
        """The same, with the base read.

        Raises:
            SamjaxError: an unusable base.
        """
        base = None if self.base is None else locate(check_model(self.base))
        return load_options(base, self.layers(), self.image_size)


def load_model(
    model: str, *, dtype: str, precision: str, device: str | None, about: About = About()
) -> Segmenter:
    """Load the model that --model names; errors are those of ``samjax.load``."""
    return load(
        check_model(model),
        dtype=dtype,
        precision=precision,
        device=device,
        preprocess=about.preprocess,
        base=None if about.base is None else check_model(about.base) or embedded_path(),
        lora_layers=about.layers(),
        image_size=about.image_size,
    )


def local_path(model: str) -> Path:
    """The file or folder behind a name or path, without downloading.

    Raises:
        CheckpointError: not there.
    """
    if model not in hub.OFFICIAL:
        return locate(check_model(model))
    path = hub.cache_folder() / hub.remote_file(model).name
    if not path.is_file():
        raise CheckpointError(f"{model}: not downloaded yet ({path}); run: samjax download {model}")
    return path


def run_convert(
    source: str, target: Path, *, dtype: str | None, about: About, overwrite: bool
) -> str:
    """Convert a checkpoint and say in one line what was written.

    Raises:
        SamjaxError: unusable source, target, dtype or preset.
    """
    kind = None if dtype is None else choose_dtype(dtype)
    about.check()
    given = check_model(source)
    found = convert(
        locate(given),
        target,
        dtype=kind,
        preprocess=about.preprocess,
        overwrite=overwrite,
        options=about.options(),
    )
    if found.doubt:
        warnings.warn(
            f"{source}: no preprocessing recorded, and SAM's own may be wrong: {found.doubt}; "
            "choose with --preprocess",
            CheckpointWarning,
            stacklevel=2,
        )
    written = describe(target.expanduser())
    return (
        f"{written.path}: {written.model or written.family}, "
        f"{written.parameters / 1e6:.1f} M parameters, {', '.join(written.dtypes)}, "
        f"{written.container}, {megabytes(written.size)}"
    )
