"""samjax's native format: an Orbax folder with parameters and what they mean."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import jax
import numpy as np

from samjax.checkpoint.families import (
    OfficialWeights,
    Options,
    read_official_weights,
    resized,
)
from samjax.checkpoint.file_errors import errors_name
from samjax.checkpoint.loading import (
    config_from_dict,
    describe_config,
    infer_config,
    to_official,
    to_parameters,
)
from samjax.config import SamConfig
from samjax.errors import CheckpointError

FORMAT = "samjax/1"


@dataclass(frozen=True)
class Checkpoint:
    """Parameters by dotted path, in their stored dtype, and what they mean.

    ``doubt`` says why SAM's own preprocessing may be wrong where ``preprocess`` is None; "" if
    nothing speaks against it.
    """

    parameters: Mapping[str, np.ndarray | jax.Array]
    config: SamConfig
    family: str
    preprocess: str | None
    notes: tuple[str, ...] = ()
    doubt: str = ""


def is_store(path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder that ``save`` wrote."""
    folder = Path(path)
    return (folder / "parameters").is_dir() and (folder / "metadata" / "metadata").is_file()


@contextmanager
def _checkpointer() -> Iterator[tuple[Any, Any]]:
    import orbax.checkpoint as ocp  # takes a second to import: only where it is needed

    handler = ocp.CompositeCheckpointHandler(
        parameters=ocp.StandardCheckpointHandler(), metadata=ocp.JsonCheckpointHandler()
    )
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # Orbax warns of its own threads, which tells the user nothing
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            yield ocp, checkpointer
    finally:
        log.setLevel(level)


def save(path: str | os.PathLike, checkpoint: Checkpoint, *, overwrite: bool = False) -> None:
    """Write a checkpoint folder, under a temporary name until it is complete.

    Args:
        path: the folder to make.
        checkpoint: what to write, in the dtype it has.
        overwrite: replace a folder that ``save`` wrote before; no other is ever replaced.

    Raises:
        CheckpointError: ``path`` exists, or cannot be written.
    """
    folder = Path(path).expanduser().absolute()
    if folder.exists() and not overwrite:
        raise CheckpointError(f"{path} exists: choose another name, or overwrite it on purpose")
    if folder.exists() and not is_store(folder):
        raise CheckpointError(
            f"{path}: something that samjax did not write is not replaced; choose another name"
        )
    metadata = {
        "format": FORMAT,
        "family": checkpoint.family,
        "preprocess": checkpoint.preprocess,
        "config": describe_config(checkpoint.config),
        "notes": list(checkpoint.notes),
    }
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _checkpointer() as (ocp, checkpointer):
            items = ocp.args.Composite(
                parameters=ocp.args.StandardSave(dict(checkpoint.parameters)),
                metadata=ocp.args.JsonSave(metadata),
            )
            checkpointer.save(temporary, args=items)
        _take_place(temporary, folder)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); check folder and disk"
        ) from None
    finally:
        for rest in folder.parent.glob(f"{temporary.name}*"):
            shutil.rmtree(rest, ignore_errors=True)


def _take_place(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``; an earlier one is gone only when the new one is there."""
    if not folder.exists():
        new.rename(folder)
        return
    aside = new.with_suffix(".old")
    folder.rename(aside)
    new.rename(folder)
    shutil.rmtree(aside)


def peek(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, jax.ShapeDtypeStruct]]:
    """Metadata of a checkpoint folder, and shape and dtype of each parameter; reads no weights.

    Raises:
        CheckpointError: another format, or a damaged folder.
    """
    folder = Path(path).expanduser().absolute()
    try:
        with _checkpointer() as (ocp, checkpointer):
            wanted = ocp.args.Composite(metadata=ocp.args.JsonRestore())
            metadata = checkpointer.restore(folder, args=wanted)["metadata"]
            leaves = dict(checkpointer.metadata(folder).item_metadata["parameters"].tree)
    except Exception as error:
        raise _damaged(path, error) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: an Orbax folder of format {metadata.get('format')!r}, not {FORMAT!r}: "
            "written by another version of samjax; convert it again"
        )
    return metadata, {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in leaves.items()}


def restore(
    path: str | os.PathLike,
    *,
    placement: jax.Device | jax.sharding.Sharding | None = None,
) -> Checkpoint:
    """Read a checkpoint folder, bit for bit in the stored dtype.

    Args:
        path: the folder.
        placement: device or sharding of the arrays; None: JAX's first device.

    Raises:
        CheckpointError: another format, or a damaged folder.
    """
    folder = Path(path).expanduser().absolute()
    sharding = placement or jax.devices()[0]
    if isinstance(sharding, jax.Device):
        sharding = jax.sharding.SingleDeviceSharding(sharding)
    metadata, shapes = peek(folder)
    abstract = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for name, leaf in shapes.items()
    }
    try:
        with _checkpointer() as (ocp, checkpointer):
            wanted = ocp.args.Composite(parameters=ocp.args.StandardRestore(abstract))
            parameters = checkpointer.restore(folder, args=wanted)["parameters"]
    except Exception as error:
        raise _damaged(path, error) from error
    return Checkpoint(
        parameters,
        config_from_dict(metadata["config"]),
        metadata["family"],
        metadata["preprocess"],
        tuple(metadata["notes"]),
    )


def _damaged(path: str | os.PathLike, error: Exception) -> CheckpointError:
    """Orbax and TensorStore raise many kinds of errors for damaged folders, in many lines."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{path}: damaged or incomplete Orbax folder ({reason[:200]}); convert it again"
    )


def read(
    path: str | os.PathLike,
    *,
    placement: jax.Device | None = None,
    options: Options | None = None,
) -> Checkpoint:
    """Any supported file or folder: ours, or a PyTorch layout mapped to our parameters.

    ``options`` are what the file does not say about itself.

    Raises:
        CheckpointError: unreadable, unsafe, unsupported or incomplete.
    """
    options = options or Options()
    if is_store(path) and options == Options():
        return restore(path, placement=placement)
    weights = read_weights(path, options)
    config = infer_config(weights.tensors, layer_norm_eps=weights.layer_norm_eps, where=str(path))
    return Checkpoint(
        to_parameters(weights.tensors, config, where=str(path)),
        config,
        weights.family,
        weights.preprocess,
        weights.notes,
        weights.doubt,
    )


def read_weights(path: str | os.PathLike, options: Options) -> OfficialWeights:
    """The same under official names, which a base has to have.

    Raises:
        CheckpointError: as ``read``.
    """
    if not is_store(path):
        return read_official_weights(Path(path), options)
    if options.base is not None or options.lora_layers is not None:
        raise CheckpointError(
            f"{path}: a whole model of samjax: leave base and lora_layers out, they are for "
            "partial files"
        )
    with errors_name(Path(path)):
        return resized(official_weights(restore(path), str(path)), options.image_size)


def official_weights(checkpoint: Checkpoint, container: str) -> OfficialWeights:
    """A checkpoint of ours under official names; ``container`` is what notes call it."""
    parameters = {name: np.asarray(value) for name, value in checkpoint.parameters.items()}
    return OfficialWeights(
        checkpoint.family,
        container,
        to_official(parameters, checkpoint.config),
        checkpoint.notes,
        checkpoint.preprocess,
        checkpoint.config.mask_decoder.layer_norm_eps,
    )
