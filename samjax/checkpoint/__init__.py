"""Checkpoints: any supported file or folder becomes samjax's parameters, and back."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.checkpoint.orbax_folder import Checkpoint, restore_orbax_folder, save_orbax_folder
    from samjax.checkpoint.read import read_checkpoint

__all__ = [
    "Checkpoint",
    "read_checkpoint",
    "restore_orbax_folder",
    "save_orbax_folder",
]

__getattr__ = lazy(
    __name__,
    {
        "Checkpoint": "samjax.checkpoint.orbax_folder",
        "read_checkpoint": "samjax.checkpoint.read",
        "restore_orbax_folder": "samjax.checkpoint.orbax_folder",
        "save_orbax_folder": "samjax.checkpoint.orbax_folder",
    },
)
