"""Pickle a loaded model as its name or path and options, and load it again, checked by its hash."""

from __future__ import annotations

import os
from typing import Any

import jax

from samjax.checkpoint import sources
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.engine.devices import DeviceChoice
from samjax.errors import CheckpointError
from samjax.files import given_path

Arguments = dict[str, Any]


def lasting(arguments: Arguments) -> Arguments:
    """Return the arguments of ``load`` as they hold in another folder and process.

    Paths become absolute, devices their names.
    """
    kept = dict(arguments)
    for name in ("source", "base", "lock"):
        value = kept[name]
        named = isinstance(value, str) and (value == "embedded" or sources.check_address(value))
        if isinstance(value, str | os.PathLike) and not named:
            kept[name] = str(given_path(value, CheckpointError).absolute())
    kept["device"] = _device_names(kept["device"])
    return kept


def _device_names(device: DeviceChoice) -> Any:
    if device is None or isinstance(device, str):
        return device
    if isinstance(device, jax.Device):
        return f"{device.platform}:{jax.devices(device.platform).index(device)}"
    return [_device_names(one) for one in device]


def load_again(
    arguments: Arguments,
    fingerprint: str,
    mask_threshold: float,
    thresholds: AutomaticThresholds,
) -> Any:
    """Load a model that was pickled, and return its Segmenter.

    Raises:
        CheckpointError: the weights are not the pickled model's.
        SamjaxError: as ``load``, where source or device are not there.
    """
    from samjax.engine.load import load

    made = load(**arguments, progress=False)
    if made.fingerprint != fingerprint:
        raise CheckpointError(
            f"{made.source}: its weights are not those of the pickled model: the file changed "
            "since, or the model was changed after loading; pickle it again, or hand over a file "
            "with the changed weights"
        )
    made.mask_threshold = mask_threshold
    made.automatic_thresholds = thresholds
    return made
