"""Read and write samjax's native format: an Orbax folder of parameters and their metadata."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import jax
import numpy as np

from samjax.checkpoint.folder_record import (
    RECORD,
    FolderRecord,
    check_arrays,
    check_files,
    check_hashes,
    listed_files,
    make_record,
    read_record,
)
from samjax.checkpoint.formats.file_errors import errors_name
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.errors import CheckpointError, CheckpointWarning
from samjax.files import check_foreign, given_path, writing
from samjax.model.config import SamConfig

WITHOUT_HASHES = (
    "written without hashes by an early version: damage cannot be noticed, convert it again"
)
# The names of files and folders that Orbax makes, for folders whose record lists none
_OURS = re.compile(
    r"_METADATA|_CHECKPOINT_METADATA|_sharding|parameters|metadata|commit_success\.txt|d"
    r"|[0-9a-f]{32}|manifest\.ocdbt|ocdbt\.process_\d+|array_metadatas|process_\d+"
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint holds parameters by dotted path, in their stored dtype, and their metadata.

    ``doubt`` says why SAM's own preprocessing may be wrong where ``preprocess`` is None; "" if
    nothing speaks against it. ``thresholds`` of automatic masks are None where the file has none.
    """

    parameters: Mapping[str, np.ndarray | jax.Array]
    config: SamConfig
    family: str
    preprocess: str | None
    notes: tuple[str, ...] = ()
    doubt: str = ""
    ignored: str = ""
    thresholds: AutomaticThresholds | None = None


def is_orbax_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is a folder that ``save_orbax_folder`` wrote."""
    folder = Path(path)
    return (folder / "parameters").is_dir() and (folder / RECORD).is_file()


def _others(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder of this format, but was not written with it."""
    listed = listed_files(folder)
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if listed is None:
            ours = all(map(_OURS.fullmatch, name.parts))
        else:
            ours = path.is_dir() or name.as_posix() in listed
        if path.is_symlink() or not ours:
            yield path


@contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    import orbax.checkpoint as ocp  # takes a second to import: only where it is needed

    handler = ocp.CompositeCheckpointHandler(
        parameters=ocp.StandardCheckpointHandler(), metadata=ocp.JsonCheckpointHandler()
    )
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)  # errors are raised as well; the rest tells nobody anything
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            yield ocp, checkpointer
    finally:
        log.setLevel(level)


def save_orbax_folder(
    path: str | os.PathLike[str], checkpoint: Checkpoint, *, overwrite: bool = False
) -> None:
    """Write a checkpoint folder, under a temporary name until it is complete.

    Args:
        path: the folder to make.
        checkpoint: parameters, written in their dtype, and metadata.
        overwrite: replace a folder that this function wrote before; no other is ever replaced,
            and none in which something else lies, too.

    Raises:
        CheckpointError: ``path`` exists, or cannot be written.
    """
    folder = given_path(path, CheckpointError).absolute()
    if folder.is_dir():
        folder = folder.resolve()  # a link stays, and what it leads to is replaced
    if folder.exists() and not overwrite:
        raise CheckpointError(f"{path} exists: choose another name, or overwrite it on purpose")
    if folder.exists() and not is_orbax_folder(folder):
        raise CheckpointError(
            f"{path}: samjax did not write it, so it is not replaced; choose another name"
        )
    check_foreign(_others(folder), lambda _: False, CheckpointError)
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    try:
        with writing(path, CheckpointError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _checkpointer() as (ocp, checkpointer):
                items = ocp.args.Composite(
                    parameters=ocp.args.StandardSave(dict(checkpoint.parameters)),
                    metadata=ocp.args.JsonSave({}),  # replaced, once there are files to hash
                )
                checkpointer.save(temporary, args=items)
            (temporary / RECORD).write_text(json.dumps(make_record(checkpoint, temporary)))
            _take_place(temporary, folder)
    finally:
        for rest in folder.parent.glob(f"{temporary.name}*"):
            shutil.rmtree(rest, ignore_errors=True)


def _take_place(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``; an earlier one is removed only when the new one is there."""
    if not folder.exists():
        new.rename(folder)
        return
    aside = new.with_suffix(".old")
    folder.rename(aside)
    try:
        new.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


def peek_orbax_folder(
    path: str | os.PathLike[str],
) -> tuple[FolderRecord, dict[str, jax.ShapeDtypeStruct]]:
    """Return the record of a checkpoint folder, and shape and dtype of each parameter.

    The two are compared; the weights are not read.

    Raises:
        CheckpointError: another format, links or pipes inside, or a damaged folder.
    """
    folder = given_path(path, CheckpointError).absolute()
    _hush_orbax()
    with errors_name(Path(path)):
        size = check_files(folder)
        record = read_record(folder)
        try:
            with _checkpointer() as (_, checkpointer):
                leaves = dict(checkpointer.metadata(folder).item_metadata["parameters"].tree)
            shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in leaves.items()}
        except Exception as error:
            raise _damaged(error) from error
        check_arrays(record, shapes, size)
    if record.sha256 is None:
        record = replace(record, notes=(*record.notes, WITHOUT_HASHES))
    return record, shapes


def restore_orbax_folder(
    path: str | os.PathLike[str],
    *,
    placement: jax.Device | jax.sharding.Sharding | None = None,
) -> Checkpoint:
    """Read a checkpoint folder, bit for bit in the stored dtype, and check its hashes.

    A folder of the first format, without hashes, loads with a CheckpointWarning.

    Args:
        path: the folder.
        placement: device or sharding of the arrays; None: JAX's first device.

    Raises:
        CheckpointError: another format, links or pipes inside, or a damaged folder.
    """
    folder = given_path(path, CheckpointError).absolute()
    sharding = placement or jax.devices()[0]
    if isinstance(sharding, jax.Device):
        sharding = jax.sharding.SingleDeviceSharding(sharding)
    record, shapes = peek_orbax_folder(path)
    abstract = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for name, leaf in shapes.items()
    }
    with errors_name(Path(path)):
        try:
            with _checkpointer() as (ocp, checkpointer):
                wanted = ocp.args.Composite(parameters=ocp.args.StandardRestore(abstract))
                parameters = checkpointer.restore(folder, args=wanted)["parameters"]
        except Exception as error:
            raise _damaged(error) from error
        check_hashes(record, parameters)
    if record.sha256 is None:
        warnings.warn(f"{path}: {WITHOUT_HASHES}", CheckpointWarning, stacklevel=2)
    return Checkpoint(
        parameters,
        record.config,
        record.family,
        record.preprocess,
        record.notes,
        thresholds=record.thresholds,
    )


def _damaged(error: Exception) -> CheckpointError:
    """Orbax and TensorStore raise many kinds of errors for damaged folders, in many lines."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    reason = reason.partition(" See full TensorStore details")[0]
    return CheckpointError(f"damaged or incomplete Orbax folder ({reason[:200]}); convert it again")


def _hush_orbax() -> None:
    """Keep what Orbax leaves behind after an error from the terminal; the error is raised anyway.

    It gives up arrays that were asked for and not waited for, of which Python warns.
    """
    _hush_late_answers()
    warnings.filterwarnings("ignore", r"coroutine '\w+Handler\.\w+' was never awaited")


@cache
def _hush_late_answers() -> None:
    sys.unraisablehook = without_orbax(sys.unraisablehook)


def without_orbax(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a hook that leaves out the tracebacks of arrays still being read after an error.

    Orbax closes its event loop at the first error and drops its coroutines; what TensorStore's
    threads answer later, and what the coroutines raise as they are freed, nobody can catch.

    Args:
        hook: a ``sys.unraisablehook``; it hears of everything else.
    """

    def filtered(problem: Any, /) -> None:  # sys.UnraisableHookArgs, which only type checkers know
        code = getattr(problem.object, "cr_code", None)
        of_orbax = f"{os.sep}orbax{os.sep}" in getattr(code, "co_filename", "")
        if not of_orbax and str(problem.exc_value) != "Event loop is closed":
            hook(problem)

    return filtered
