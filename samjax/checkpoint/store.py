"""samjax's native format: an Orbax folder with parameters and what they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from samjax.checkpoint.families import read_official_weights
from samjax.checkpoint.loading import (
    config_from_dict,
    describe_config,
    infer_config,
    to_parameters,
)
from samjax.config import SamConfig
from samjax.errors import CheckpointError

FORMAT = "samjax/1"


@dataclass(frozen=True)
class Checkpoint:
    """Parameters by dotted path, in their stored dtype, and what they mean."""

    parameters: Mapping[str, np.ndarray | jax.Array]
    config: SamConfig
    family: str
    preprocess: str | None
    notes: tuple[str, ...] = ()


def is_store(path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder that ``save`` wrote."""
    folder = Path(path)
    return (folder / "parameters").is_dir() and (folder / "metadata" / "metadata").is_file()


def _checkpointer():
    import orbax.checkpoint as ocp  # takes a second to import: only where it is needed

    return ocp, ocp.Checkpointer(ocp.CompositeCheckpointHandler())


def save(path: str | os.PathLike, checkpoint: Checkpoint, *, overwrite: bool = False) -> None:
    """Write a checkpoint folder; Orbax writes under a temporary name and renames.

    Raises:
        CheckpointError: ``path`` exists and ``overwrite`` is not set, or cannot be written.
    """
    folder = Path(path).expanduser().absolute()
    if folder.exists() and not overwrite:
        raise CheckpointError(f"{path} exists: choose another name, or overwrite it on purpose")
    ocp, checkpointer = _checkpointer()
    metadata = {
        "format": FORMAT,
        "family": checkpoint.family,
        "preprocess": checkpoint.preprocess,
        "config": describe_config(checkpoint.config),
        "notes": list(checkpoint.notes),
    }
    try:
        with checkpointer:
            checkpointer.save(
                folder,
                args=ocp.args.Composite(
                    parameters=ocp.args.StandardSave(dict(checkpoint.parameters)),
                    metadata=ocp.args.JsonSave(metadata),
                ),
                force=overwrite,
            )
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error}); check folder and disk"
        ) from None


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
    ocp, checkpointer = _checkpointer()
    sharding = placement or jax.devices()[0]
    if isinstance(sharding, jax.Device):
        sharding = jax.sharding.SingleDeviceSharding(sharding)
    try:
        with checkpointer:
            items = checkpointer.restore(
                folder, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())
            )
            metadata = items["metadata"]
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: an Orbax folder of format {metadata.get('format')!r}, not "
                    f"{FORMAT!r}: written by another version of samjax; convert it again"
                )
            stored = checkpointer.item_metadata(folder)["parameters"]
            abstract = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
                for name, leaf in stored.tree.items()
            }
            items = checkpointer.restore(
                folder,
                args=ocp.args.Composite(parameters=ocp.args.StandardRestore(abstract)),
            )
    except CheckpointError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds for damaged folders
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: damaged or incomplete Orbax folder ({reason[:200]}); convert it again"
        ) from error
    return Checkpoint(
        items["parameters"],
        config_from_dict(metadata["config"]),
        metadata["family"],
        metadata["preprocess"],
        tuple(metadata["notes"]),
    )


def read(path: str | os.PathLike, *, placement: jax.Device | None = None) -> Checkpoint:
    """Any supported file or folder: ours, or a PyTorch layout mapped to our parameters.

    Raises:
        CheckpointError: unreadable, unsafe, unsupported or incomplete.
    """
    if is_store(path):
        return restore(path, placement=placement)
    weights = read_official_weights(Path(path))
    config = infer_config(weights.tensors, layer_norm_eps=weights.layer_norm_eps, where=str(path))
    return Checkpoint(
        to_parameters(weights.tensors, config, where=str(path)),
        config,
        weights.family,
        weights.preprocess,
        weights.notes,
    )
