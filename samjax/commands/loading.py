"""Checkpoints on the command line: a name or a path to a model, a file, another file."""

from __future__ import annotations

from pathlib import Path

from samjax.checkpoint import hub
from samjax.checkpoint.convert import convert
from samjax.checkpoint.describe import describe, megabytes
from samjax.engine import Segmenter, choose_dtype, load, locate
from samjax.errors import CheckpointError
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


def load_model(model: str, *, dtype: str, precision: str, device: str | None) -> Segmenter:
    """Load the model that --model names; errors are those of ``samjax.load``."""
    return load(check_model(model), dtype=dtype, precision=precision, device=device)


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
    source: str, target: Path, *, dtype: str | None, preprocess: str | None, overwrite: bool
) -> str:
    """Convert a checkpoint and say in one line what was written.

    Raises:
        SamjaxError: unusable source, target, dtype or preset.
    """
    kind = None if dtype is None else choose_dtype(dtype)
    if preprocess is not None:
        get_preset(preprocess)
    given = check_model(source)
    convert(locate(given), target, dtype=kind, preprocess=preprocess, overwrite=overwrite)
    written = describe(target.expanduser())
    return (
        f"{written.path}: {written.model or written.family}, "
        f"{written.parameters / 1e6:.1f} M parameters, {', '.join(written.dtypes)}, "
        f"{written.container}, {megabytes(written.size)}"
    )
