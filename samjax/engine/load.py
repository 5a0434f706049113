"""Load a checkpoint by name, file or folder: ``samjax.load``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from samjax.arguments import shown, texts, whole_number, whole_numbers
from samjax.checkpoint import sources
from samjax.checkpoint.download import OFFICIAL
from samjax.checkpoint.families.official import OfficialWeights, ReadOptions
from samjax.checkpoint.hub_address import intended_address
from samjax.checkpoint.models_lock import read_lock
from samjax.checkpoint.orbax_folder import Checkpoint
from samjax.checkpoint.origin import Located, with_origin
from samjax.checkpoint.parameters import (
    fill_model,
    random_parameters,
)
from samjax.checkpoint.read import official_weights, read_checkpoint, read_weights
from samjax.engine.again import lasting
from samjax.engine.devices import (
    DeviceChoice,
    check_attention,
    check_precision,
    choose_devices,
    choose_dtype,
    keep_compiled,
)
from samjax.engine.segmenter import Segmenter
from samjax.errors import CheckpointError, CheckpointWarning, DownloadError
from samjax.files import given_path, refuse_address
from samjax.image.preset import get_preset
from samjax.migration import intended_model
from samjax.model.config import SamConfig

EMBEDDED = "embedded"  # the name of the checkpoint that comes with the package
_EMBEDDED_FILE = "tiny_448.safetensors"


def embedded_path() -> Path:
    """The checkpoint that comes with the package."""
    return Path(str(resources.files("samjax") / "weights" / _EMBEDDED_FILE))


def check_source(source: str | os.PathLike[str]) -> None:
    """Refuse a source that is no model's name, no address on the hub and no existing path.

    Raises:
        CheckpointError: no such name or path, or an address that is not well-formed.
    """
    if isinstance(source, str) and (source == EMBEDDED or sources.check_address(source)):
        return
    path = given_path(source, CheckpointError)
    if not os.fspath(source):
        raise CheckpointError('the model is "": give a name, an address or a path')
    if not path.exists():
        meant = intended_address(source) or sources.intended_name(source) or intended_model(source)
        if meant:
            raise CheckpointError(
                f"{source}: no such file or folder, and not a model's name; "
                f'did you mean "{meant}"?'
            )
        refuse_address(source, CheckpointError)
        raise sources.not_there(source, ", ".join((EMBEDDED, *OFFICIAL)))


def locate(source: str | os.PathLike[str] | None, *, progress: bool = True) -> Path:
    """Find the file or folder that ``load`` reads: the embedded one, a download, or a path.

    Raises:
        CheckpointError: neither a known name nor an existing path.
        DownloadError: weights that could not be fetched or verified.
    """
    return find_source(source, progress=progress).path


def find_source(
    source: str | os.PathLike[str] | None,
    *,
    lock: sources.Lock | None = None,
    progress: bool = True,
) -> Located:
    """Find the checkpoint that ``load`` reads, and where it came from.

    Raises:
        CheckpointError: neither a known name nor an existing path.
        DownloadError: weights that could not be fetched or verified, or that ``lock`` refuses.
    """
    name = EMBEDDED if source is None else source
    check_source(name)
    if isinstance(name, str) and name != EMBEDDED and sources.check_address(name):
        return sources.fetch_source(name, lock=lock, progress=progress)
    path = embedded_path() if name == EMBEDDED else given_path(name, CheckpointError)
    if lock is not None:
        sources.check_path(str(name), path, lock)
    return Located(path)


def read_options(
    base: str | os.PathLike[str] | Segmenter | None = None,
    lora_layers: Sequence[int] | None = None,
    image_size: int | None = None,
    prefix: str | None = None,
    ignore: Sequence[str] = (),
    *,
    progress: bool = True,
    lock: sources.Lock | None = None,
) -> ReadOptions:
    """Return the options of ``load`` for a file, with the base read.

    Raises:
        CheckpointError: an unusable base.
    """
    found: OfficialWeights | None = None
    if isinstance(base, Segmenter):
        parts = Checkpoint(
            base.parameters(),
            base.config,
            base.family,
            base.preset.name,
            thresholds=base.automatic_thresholds,
        )
        found = official_weights(parts, f"{base.source}, {base.dtype.name}")
    elif base is not None:
        located = find_source(base, lock=lock, progress=progress)
        found = read_weights(located.path, ReadOptions())
        found = replace(found, container=str(base))
    layers = None
    if lora_layers is not None:
        layers = tuple(whole_numbers(lora_layers, "lora_layers", CheckpointError))
    if image_size is not None:
        image_size = whole_number(image_size, "image_size", error=CheckpointError)
    if prefix is not None and not isinstance(prefix, str):
        raise CheckpointError(f"prefix is {shown(prefix)}: pass a text")
    names = texts(ignore, "ignore", CheckpointError)
    return ReadOptions(found, layers, image_size, prefix, names)


def load(
    source: str | os.PathLike[str] | SamConfig | None = None,
    *,
    dtype: str = "auto",
    precision: str = "highest",
    attention: str = "auto",
    device: DeviceChoice = None,
    preprocess: str | None = None,
    base: str | os.PathLike[str] | Segmenter | None = None,
    lora_layers: Sequence[int] | None = None,
    image_size: int | None = None,
    prefix: str | None = None,
    ignore: Sequence[str] = (),
    lock: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Segmenter:
    """Load a model from the embedded checkpoint, a name, an address on the hub, or a path.

    Args:
        source: "embedded" or None for the small checkpoint of the package (offline); "vit_b",
            "vit_l", "vit_h" for the official weights (downloaded once), or another name that
            ``samjax models`` lists; "hf://owner/name[@revision][/file]" for a repository on the
            Hugging Face hub; else a path: .pth, .safetensors, a Hugging Face folder, or a folder
            written by ``samjax convert``. A SamConfig gives random weights of its sizes, for
            timing.
        dtype: dtype of the matrix products: "float32", "bfloat16", "float16", or "auto": the
            fastest that the device is good at, see devices.automatic_dtype. ``print(sam)`` shows
            the choice. "float32" with precision "highest" keeps the official numbers.
        precision: precision of float32 matrix products on GPU and TPU: "highest" (the official
            numbers), "high", "default" (may be TF32).
        attention: "auto", or "pallas" for a kernel of samjax's own in the global blocks of the
            image encoder, on NVIDIA GPUs from Ampere on. It has been compiled for them and tested
            by interpretation, never run on one: where it fails, a warning says so once, and
            "auto" is used.
        device: "cpu", "gpu", "gpu:1", "tpu", a jax.Device; None: JAX's first device; "all" or a
            list of devices: batches of images are spread over them.
        preprocess: preset for images: "sam", "medsam", "microsam", "samed" or "sammed2d"; None:
            the one that the checkpoint records, else "sam", with a CheckpointWarning where that
            is doubtful.
        base: the SAM that a partial file (LoRA, encoder or decoder alone) was trained on: a
            name, a path or a loaded model.
        lora_layers: blocks of numbered LoRA pairs, where a file has them for some blocks only.
        image_size: side of the network's input in pixels, if not the file's own; position
            embeddings are resized, as SAMed and SAM-Med2D do.
        prefix: beginning of SAM's keys, with its dot, where a file has several models ("student.").
            Otherwise they are found under any prefix.
        ignore: names of weights in the file, or patterns with ``*``, that are not SAM's.
        lock: a lock file of ``samjax lock``: anything that it does not list, or whose content is
            another, is refused, also for ``base``.
        progress: show a bar while downloading.

    Raises:
        CheckpointError: unreadable, unsafe, unsupported or incomplete checkpoint.
        DownloadError: weights that could not be fetched or verified, or that the lock refuses.
        DeviceError: unknown dtype, precision or attention, or no such device here.
    """
    check_precision(precision)
    check_attention(attention)
    if preprocess is not None:
        get_preset(preprocess)
    keep_compiled()
    chosen, *others = choose_devices(device)
    kind = choose_dtype(dtype, chosen)
    if isinstance(source, SamConfig):
        name = "random weights"
        found, origin = Checkpoint(random_parameters(source), source, "random", None), None
    else:
        name = EMBEDDED if source is None else str(source)
        entries = None if lock is None else read_lock(given_path(lock, DownloadError))
        options = read_options(
            base, lora_layers, image_size, prefix, ignore, progress=progress, lock=entries
        )
        located = find_source(source, lock=entries, progress=progress)
        found, origin = (
            read_checkpoint(located.path, placement=chosen, options=options),
            located.origin,
        )
        found = with_origin(found, origin, asked=preprocess)
    preset = get_preset(preprocess or found.preprocess or "sam")
    if found.doubt and preprocess is None:
        warnings.warn(
            f"{name}: preprocessed as for SAM, which may be wrong: {found.doubt}; choose with "
            "preprocess=",
            CheckpointWarning,
            stacklevel=2,
        )
    if found.ignored:
        warnings.warn(
            f"{name}: {found.ignored}; name them in ignore= if that is right",
            CheckpointWarning,
            stacklevel=2,
        )
    return Segmenter(
        fill_model(found.parameters, found.config, dtype=kind, placement=chosen),
        preset=preset,
        dtype=kind,
        precision=precision,
        attention=attention,
        device=chosen,
        family=found.family,
        source=name,
        notes=found.notes,
        devices=(chosen, *others),
        dtype_chosen=dtype == "auto" and chosen.platform != "cpu",
        thresholds=found.thresholds,
        origin=origin,
        arguments=lasting(
            {
                "source": source,
                "dtype": kind.name,
                "precision": precision,
                "attention": attention,
                "device": device,
                "preprocess": preset.name,
                "base": base,
                "lora_layers": lora_layers,
                "image_size": image_size,
                "prefix": prefix,
                "ignore": tuple(ignore),
                "lock": lock,
            }
        ),
    )
