"""A model's name and options as one value: hashable, picklable, and checked before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samjax.checkpoint.models_lock import read_lock
from samjax.engine.devices import check_attention, check_precision, choose_device, choose_dtype
from samjax.engine.load import EMBEDDED, check_source, load
from samjax.engine.segmenter import Segmenter
from samjax.errors import CheckpointError, DownloadError
from samjax.files import content_of, given_path
from samjax.image.preset import get_preset


@dataclass(frozen=True)
class ModelSpec:
    """The arguments of ``samjax.load``, to be loaded later or in another process.

    >>> spec = samjax.ModelSpec("vit_b", dtype="bfloat16")
    >>> sam = spec.load()

    Attributes:
        source: "embedded", an official name, or the path of a file or folder.
        dtype: dtype of the matrix products; "auto" chooses by device.
        precision: precision of float32 products on GPU and TPU.
        device: name of a device, such as "gpu:1"; None: JAX's first.
        preprocess: name of a preset; None: what the checkpoint says, else "sam".
        base: for a partial file, the SAM that it was trained on: a name or path.
        lora_layers: blocks of numbered LoRA pairs.
        image_size: side of the network's input in pixels; None: the checkpoint's.
        prefix: beginning of SAM's keys in a file of several models.
        ignore: names or patterns of weights that are not SAM's.
        lock: a lock file of ``samjax lock``, outside which nothing loads.
        attention: "auto" or "pallas", see ``samjax.load``.
    """

    source: str = EMBEDDED
    dtype: str = "auto"
    precision: str = "highest"
    device: str | None = None
    preprocess: str | None = None
    base: str | None = None
    lora_layers: tuple[int, ...] | None = None
    image_size: int | None = None
    prefix: str | None = None
    ignore: tuple[str, ...] = ()
    lock: str | None = None
    attention: str = "auto"

    def check(self) -> None:
        """Refuse what can be refused without downloading or reading a checkpoint.

        Raises:
            SamjaxError: an unknown source, base, dtype, precision, attention, device or preset, or
            a lock file that cannot be read.
        """
        for source in (self.source, self.base):
            if source is not None:
                check_source(source)
        if self.lock is not None:
            read_lock(given_path(self.lock, DownloadError))
        check_precision(self.precision)
        check_attention(self.attention)
        choose_dtype(self.dtype, choose_device(self.device))
        if self.preprocess is not None:
            get_preset(self.preprocess)

    def files(self) -> list[Path]:
        """Return the local files and folders that the model is read from, to be protected."""
        named = (self.source, self.base, self.lock)
        found = (given_path(source, CheckpointError) for source in named if source)
        return [path for path in content_of(found) if path.exists()]

    def load(self, *, progress: bool = True) -> Segmenter:
        """Load the model.

        Raises:
            SamjaxError: as ``samjax.load``.
        """
        return load(
            self.source,
            dtype=self.dtype,
            precision=self.precision,
            attention=self.attention,
            device=self.device,
            preprocess=self.preprocess,
            base=self.base,
            lora_layers=self.lora_layers,
            image_size=self.image_size,
            prefix=self.prefix,
            ignore=self.ignore,
            lock=self.lock,
            progress=progress,
        )
