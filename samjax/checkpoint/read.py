"""Read any supported checkpoint, file or folder, into samjax's parameters."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from samjax.checkpoint.families.detect import ForeignWeightsError
from samjax.checkpoint.families.official import (
    OfficialWeights,
    ReadOptions,
    read_official_weights,
    resized,
)
from samjax.checkpoint.formats.file_errors import errors_name
from samjax.checkpoint.formats.open import open_tensor_file
from samjax.checkpoint.infer import infer_config
from samjax.checkpoint.orbax_folder import Checkpoint, is_orbax_folder, restore_orbax_folder
from samjax.checkpoint.parameters import (
    to_official,
    to_parameters,
)
from samjax.errors import CheckpointError


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    placement: jax.Device | None = None,
    options: ReadOptions | None = None,
) -> Checkpoint:
    """Read samjax's own folder, or any supported PyTorch layout mapped to samjax's parameters.

    ``options`` give settings that the file does not record.

    Raises:
        CheckpointError: unreadable, unsafe, unsupported or incomplete.
    """
    options = options or ReadOptions()
    if is_orbax_folder(path) and options == ReadOptions():
        return restore_orbax_folder(path, placement=placement)
    weights = read_weights(path, options)
    with errors_name(Path(path)):
        config = infer_config(
            weights.tensors, layer_norm_eps=weights.layer_norm_eps, where=str(path)
        )
        parameters = to_parameters(weights.tensors, config, where=str(path))
    return Checkpoint(
        parameters,
        config,
        weights.family,
        weights.preprocess,
        weights.notes,
        weights.doubt,
        weights.ignored,
        weights.thresholds,
    )


def read_weights(path: str | os.PathLike[str], options: ReadOptions) -> OfficialWeights:
    """Read any supported file or folder as tensors under official names, as a base needs them.

    Raises:
        CheckpointError: as in ``read_checkpoint``.
    """
    if not is_orbax_folder(path):
        return read_official_weights(Path(path), options)
    if options.base is not None or options.lora_layers is not None:
        raise CheckpointError(
            f"{path}: a whole model of samjax: leave base and lora_layers out, they are for "
            "partial files"
        )
    if options.prefix or options.ignore:
        raise CheckpointError(
            f"{path}: a folder of samjax: leave prefix and ignore out, they are for the files of "
            "other programs"
        )
    with errors_name(Path(path)):
        return resized(official_weights(restore_orbax_folder(path), str(path)), options.image_size)


def refuse_other_files(path: Path) -> None:
    """Refuse a file or folder without weights of a SAM; parts and damaged ones pass.

    Raises:
        CheckpointError: no tensors, or those of another network.
    """
    if is_orbax_folder(path):
        return
    if path.is_dir() and not any(path.iterdir()):
        raise CheckpointError(f"{path}: a folder without files, no checkpoint: check the path")
    with errors_name(path):
        open_tensor_file(path)
    try:
        read_weights(path, ReadOptions())
    except ForeignWeightsError:
        raise
    except CheckpointError:  # a part, several models, damaged: what loads it tells
        pass


def official_weights(checkpoint: Checkpoint, container: str) -> OfficialWeights:
    """Return samjax's checkpoint under official names; ``container`` names it in notes."""
    parameters = {name: jax.device_get(value) for name, value in checkpoint.parameters.items()}
    return OfficialWeights(
        checkpoint.family,
        container,
        to_official(parameters, checkpoint.config),
        checkpoint.notes,
        checkpoint.preprocess,
        checkpoint.config.mask_decoder.layer_norm_eps,
        thresholds=checkpoint.thresholds,
    )
