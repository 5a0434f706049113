"""Describe a checkpoint without building the network: ``samjax inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from samjax.checkpoint.config_json import describe_config
from samjax.checkpoint.families.official import ReadOptions
from samjax.checkpoint.formats.file_errors import errors_name
from samjax.checkpoint.infer import infer_config
from samjax.checkpoint.orbax_folder import is_orbax_folder, peek_orbax_folder
from samjax.checkpoint.origin import Origin
from samjax.checkpoint.parameters import (
    parameter_count,
    to_parameters,
)
from samjax.checkpoint.read import read_weights
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.model.config import ImageEncoderConfig, SamConfig, TinyVitConfig


@dataclass(frozen=True)
class Description:
    """A description holds everything about a checkpoint but the weights.

    ``model`` is "vit_b", "sam_hq_vit_b", "mobile_sam"... where the sizes are those, else None;
    ``dtypes`` counts values by stored dtype; ``preprocess`` is None where the file does not say,
    and ``doubt`` then why SAM's own may be wrong.
    """

    path: Path
    size: int
    container: str
    family: str
    model: str | None
    config: SamConfig
    parameters: int
    dtypes: Mapping[str, int]
    preprocess: str | None
    notes: tuple[str, ...]
    doubt: str = ""
    thresholds: AutomaticThresholds | None = None
    origin: Origin | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "path": str(self.path),
            "bytes": self.size,
            "container": self.container,
            "family": self.family,
            "model": self.model,
            "parameters": self.parameters,
            "dtypes": dict(self.dtypes),
            "config": describe_config(self.config),
            "preprocess": self.preprocess,
            "doubt": self.doubt,
            "automatic": None if self.thresholds is None else self.thresholds.as_dict(),
            "notes": list(self.notes),
            "origin": None if self.origin is None else self.origin.as_dict(),
        }


def describe(path: Path, options: ReadOptions | None = None) -> Description:
    """Read a checkpoint's metadata, and check that its weights are complete.

    ``options`` give settings that the file does not record, such as the base of a LoRA.

    Raises:
        CheckpointError: unreadable, unsafe, unsupported or incomplete.
    """
    options = options or ReadOptions()
    if is_orbax_folder(path) and options == ReadOptions():
        return _describe_store(path)
    return _describe_official(path, options)


def _describe_official(path: Path, options: ReadOptions) -> Description:
    weights = read_weights(path, options)
    with errors_name(path):
        config = infer_config(
            weights.tensors, layer_norm_eps=weights.layer_norm_eps, where=str(path)
        )
        to_parameters(weights.tensors, config, where=str(path))  # every misfit in one error
    return Description(
        path,
        _size_on_disk(path),
        weights.container,
        weights.family,
        model_name(config),
        config,
        parameter_count(config),
        _values_by_dtype((a.dtype.name, a.shape) for a in weights.tensors.values()),
        weights.preprocess,
        weights.notes,
        weights.doubt,
        weights.thresholds,
    )


def _describe_store(path: Path) -> Description:
    record, leaves = peek_orbax_folder(path)
    config = record.config
    return Description(
        path,
        _size_on_disk(path),
        "Orbax folder of samjax",
        record.family,
        model_name(config),
        config,
        parameter_count(config),
        _values_by_dtype((leaf.dtype.name, leaf.shape) for leaf in leaves.values()),
        record.preprocess,
        record.notes,
        thresholds=record.thresholds,
    )


def model_name(config: SamConfig) -> str | None:
    """Return the name of these sizes: SAM's, SAM-HQ's or MobileSAM's; None for any others."""
    official = {"vit_b": SamConfig.vit_b(), "vit_l": SamConfig.vit_l(), "vit_h": SamConfig.vit_h()}
    names = official | {"mobile_sam": SamConfig.mobile()}
    names |= {f"sam_hq_{name}": sizes.with_hq() for name, sizes in official.items()}
    names["sam_hq_vit_tiny"] = SamConfig.mobile().with_hq()
    return next((name for name, sizes in names.items() if sizes == config), None)


def _values_by_dtype(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for dtype, shape in tensors:
        counts[dtype] += prod(shape)
    return dict(counts.most_common())


def _size_on_disk(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe_rows(description: Description) -> list[tuple[str, str]]:
    """Return (name, value) of each row that ``samjax inspect`` prints."""
    config = description.config
    encoder, prompt, decoder = config.image_encoder, config.prompt_encoder, config.mask_decoder
    total = sum(description.dtypes.values())
    dtypes = [
        name if count == total else f"{name} ({count / total:.1%})"
        for name, count in description.dtypes.items()
    ]
    given = (
        f"{config.image_size} x {config.image_size} px, embedding of {config.grid} px a side, "
        f"low-res masks of {config.low_res_size} px"
    )
    mask_decoder = (
        f"width {decoder.embed_dim}, depth {decoder.depth}, heads {decoder.num_heads}, "
        f"MLP {decoder.mlp_dim}, attention {decoder.attention_dim}, masks {decoder.num_masks}, "
        f"IoU head {decoder.iou_head_depth} x {decoder.iou_head_dim}, "
        f"LayerNorm epsilon {decoder.layer_norm_eps:g}"
    )
    if config.hq:
        mask_decoder += "; SAM-HQ's token, of several masks only the best is returned"
    return [
        ("checkpoint", f"{description.path} ({megabytes(description.size)})"),
        ("container", description.container),
        ("family", description.family),
        ("model", description.model or "of other sizes than vit_b, vit_l and vit_h"),
        ("parameters", f"{description.parameters / 1e6:.1f} M"),
        ("stored dtype", ", ".join(dtypes)),
        ("input", given),
        ("image encoder", _image_encoder(encoder)),
        ("prompt encoder", f"width {prompt.embed_dim}, mask channels {prompt.mask_channels}"),
        ("mask decoder", mask_decoder),
        ("preprocessing", description.preprocess or _assumed(description.doubt)),
        ("automatic masks", _thresholds(description.thresholds)),
        *(() if description.origin is None else origin_rows(description.origin)),
        *(("note", note) for note in description.notes),
    ]


def origin_rows(origin: Origin) -> list[tuple[str, str]]:
    """Return (name, value) of where a checkpoint came from."""
    entry = origin.entry
    rows = [
        ("source", f"{origin.source}, recorded {entry.day}, fixed by {entry.pinned_by}"),
        ("address", entry.address),
        ("commit", entry.commit or ""),
        *(("sha256", f"{sha256} {name}") for name, sha256 in entry.weights.items()),
        ("licence", entry.licence or (f"see {origin.page}" if origin.page else "")),
    ]
    return [(name, value) for name, value in rows if value]


def _image_encoder(encoder: ImageEncoderConfig | TinyVitConfig) -> str:
    if isinstance(encoder, TinyVitConfig):
        stages = zip(
            encoder.widths, encoder.depths, encoder.num_heads, encoder.window_sizes, strict=True
        )
        named = [
            f"{width} x {depth}" + (f" ({heads} heads, window {window})" if heads else "")
            for width, depth, heads, window in stages
        ]
        return f"TinyViT, width x depth {', '.join(named)}, output {encoder.out_dim}"
    blocks = ", ".join(map(str, encoder.global_blocks)) or "none"
    return (
        f"patches of {encoder.patch_size} px, width {encoder.width}, depth {encoder.depth}, "
        f"heads {encoder.num_heads}, MLP {encoder.mlp_dim}, output {encoder.out_dim}, "
        f"window {encoder.window_size}, global attention in blocks {blocks}"
    )


def _thresholds(recorded: AutomaticThresholds | None) -> str:
    return str(recorded or f"{AutomaticThresholds()} (SAM's own; not recorded)")


def _assumed(doubt: str) -> str:
    return (
        f"not recorded; sam is assumed, doubtful: {doubt}"
        if doubt
        else "not recorded; sam is assumed"
    )


def megabytes(size: int) -> str:
    """Return a number of bytes as text, in powers of ten."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
