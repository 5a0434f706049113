"""What a checkpoint is, without building the network: ``samjax inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from samjax.checkpoint import store
from samjax.checkpoint.families import Options
from samjax.checkpoint.layout import official_layout
from samjax.checkpoint.loading import (
    config_from_dict,
    describe_config,
    infer_config,
    parameter_count,
    to_parameters,
)
from samjax.config import ImageEncoderConfig, SamConfig, TinyVitConfig
from samjax.errors import CheckpointError


@dataclass(frozen=True)
class Description:
    """Everything but the weights.

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

    def as_dict(self) -> dict:
        """Plain JSON values."""
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
            "notes": list(self.notes),
        }


def describe(path: Path, options: Options | None = None) -> Description:
    """Read what a checkpoint says about itself and check that it is complete.

    ``options`` are what the file does not say about itself, such as the base of a LoRA.

    Raises:
        CheckpointError: unreadable, unsafe, unsupported or incomplete.
    """
    options = options or Options()
    if store.is_store(path) and options == Options():
        return _describe_store(path)
    return _describe_official(path, options)


def _describe_official(path: Path, options: Options) -> Description:
    weights = store.read_weights(path, options)
    config = infer_config(weights.tensors, layer_norm_eps=weights.layer_norm_eps, where=str(path))
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
    )


def _describe_store(path: Path) -> Description:
    metadata, leaves = store.peek(path)
    config = config_from_dict(metadata["config"])
    wanted = {entry.path for entry in official_layout(config).values()}
    if missing := sorted(wanted - set(leaves)):
        raise CheckpointError(
            f"{path}: {len(missing)} parameters are missing, such as {missing[0]}; convert it again"
        )
    return Description(
        path,
        _size_on_disk(path),
        "Orbax folder of samjax",
        metadata["family"],
        model_name(config),
        config,
        parameter_count(config),
        _values_by_dtype((leaf.dtype.name, leaf.shape) for leaf in leaves.values()),
        metadata["preprocess"],
        tuple(metadata["notes"]),
    )


def model_name(config: SamConfig) -> str | None:
    """The official name of these sizes, if they have one; SAM-HQ's and MobileSAM's of files."""
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
    """(name, value) of all that is worth reading."""
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
        mask_decoder += "; SAM-HQ's token, of several masks the best is given alone"
    return [
        ("checkpoint", f"{description.path} ({megabytes(description.size)})"),
        ("container", description.container),
        ("family", description.family),
        ("model", description.model or "sizes of its own"),
        ("parameters", f"{description.parameters / 1e6:.1f} M"),
        ("stored dtype", ", ".join(dtypes)),
        ("input", given),
        ("image encoder", _image_encoder(encoder)),
        ("prompt encoder", f"width {prompt.embed_dim}, mask channels {prompt.mask_channels}"),
        ("mask decoder", mask_decoder),
        ("preprocessing", description.preprocess or _assumed(description.doubt)),
        *(("note", note) for note in description.notes),
    ]


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


def _assumed(doubt: str) -> str:
    return (
        f"not recorded; sam is assumed, doubtful: {doubt}"
        if doubt
        else "not recorded; sam is assumed"
    )


def megabytes(size: int) -> str:
    """Bytes as text, in powers of ten."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
