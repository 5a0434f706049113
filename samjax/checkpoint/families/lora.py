"""Find low-rank adapters (LoRA) in checkpoints, under the names of each family, and merge them.

A LoRA adds ``scale * B @ A`` to a frozen weight W of shape (out, in); A is (rank, in), B is
(out, rank). Adding the product to W once, in float32, gives the same network without
the extra layers. Sources: LoRA (Hu et al. 2021), section 4.1; the code of SAMed, Sam_LoRA,
finetune-SAM, micro-sam and PEFT for names, order and scale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samjax.errors import CheckpointError

_PAIR = re.compile(r"w_([ab])_(\d{1,5})")
_BLOCK = "image_encoder.blocks"


@dataclass(frozen=True)
class Update:
    """An update is ``weight[rows] += scale * b @ a`` for the tensor ``key``.

    ``part`` is the third of a joint qkv weight ("q", "k", "v") that the rows are, or "" for all;
    ``name`` names the pair in error messages.
    """

    key: str
    part: str
    a: np.ndarray
    b: np.ndarray
    scale: float = 1.0
    name: str = ""


def merge(tensors: Mapping[str, np.ndarray], updates: Sequence[Update]) -> dict[str, np.ndarray]:
    """Return the tensors with all updates added, in float32; others stay as they are.

    Raises:
        CheckpointError: an update of a weight that is not there, or of other sizes.
    """
    result = dict(tensors)
    for update in updates:
        weight = result.get(update.key)
        if weight is None:
            raise CheckpointError(
                f"the LoRA pair {update.name!r:.200} belongs to {update.key!r:.200}, which the "
                "model does not have: give the base it was trained on"
            )
        result[update.key] = _added(weight, update)
    return result


def _added(weight: np.ndarray, update: Update) -> np.ndarray:
    a, b = update.a, update.b
    thirds = 3 if update.part else 1
    fits = (
        weight.ndim == a.ndim == b.ndim == 2
        and a.shape[0] == b.shape[1] > 0
        and weight.shape == (thirds * b.shape[0], a.shape[1])
    )
    if not fits:
        raise CheckpointError(
            f"the LoRA pair {update.name!r:.200} of shapes {a.shape} and {b.shape} does not fit "
            f"{update.key!r:.200} {weight.shape}: it was trained on another model size, give that "
            "model as base="
        )
    merged = np.array(weight, np.float32)
    rows = {"": 0, "q": 0, "k": 1, "v": 2}[update.part] * b.shape[0]
    product = b.astype(np.float32) @ a.astype(np.float32)
    merged[rows : rows + b.shape[0]] += np.float32(update.scale) * product
    return merged


# Files of pairs: w_a_000, w_b_000, ... (SAMed, Sam_LoRA)


def has_pairs(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether a file holds numbered pairs, which need a base."""
    return any(_PAIR.fullmatch(key) for key in tensors)


def describe_pairs(tensors: Mapping[str, np.ndarray]) -> str:
    """Describe such a file in an error message: its number of pairs and their rank."""
    names = [key for key in tensors if _PAIR.fullmatch(key)]
    first = tensors[min(names)]
    rank = min(first.shape) if first.ndim == 2 else 0
    return f"LoRA-only file ({(len(names) + 1) // 2} pairs, rank {rank})"


def split_pairs(
    tensors: Mapping[str, np.ndarray], depth: int, layers: Sequence[int] | None
) -> tuple[dict[str, np.ndarray], list[Update]]:
    """Return (the other tensors, the updates of numbered pairs).

    Pair 2k belongs to q and pair 2k + 1 to v of a block.

    Args:
        depth: number of blocks of the base's image encoder.
        layers: the blocks that have pairs, if not all; in ascending order, as SAMed walks them.

    Raises:
        CheckpointError: missing halves, or a number of pairs that does not fit the blocks.
    """
    rest = {key: array for key, array in tensors.items() if not _PAIR.fullmatch(key)}
    halves: dict[str, dict[int, np.ndarray]] = {"a": {}, "b": {}}
    for key in tensors:
        if found := _PAIR.fullmatch(key):
            halves[found[1]][int(found[2])] = tensors[key]
    count = len(halves["a"])
    if set(halves["a"]) != set(halves["b"]) or set(halves["a"]) != set(range(count)) or count % 2:
        raise CheckpointError(
            f"{describe_pairs(tensors)}: its pairs are not w_a_000, w_b_000 and so on, two of them "
            "a block: truncated or of another family, save it again"
        )
    blocks = _blocks_of_pairs(describe_pairs(tensors), count // 2, depth, layers)
    updates = [
        Update(
            f"{_BLOCK}.{block}.attn.qkv.weight",
            part,
            halves["a"][2 * k + i],
            halves["b"][2 * k + i],
            name=f"w_a_{2 * k + i:03d}, w_b_{2 * k + i:03d}",
        )
        for k, block in enumerate(blocks)
        for i, part in enumerate("qv")
    ]
    return rest, updates


def _blocks_of_pairs(
    what: str, count: int, depth: int, layers: Sequence[int] | None
) -> Sequence[int]:
    if layers is None:
        if count == depth:
            return range(depth)
        raise CheckpointError(
            f"{what}: enough for {count} of the {depth} blocks of the base: pass lora_layers=, "
            "the numbers of the trained blocks (from 0), or another base="
        )
    blocks = sorted(set(layers))
    if len(blocks) != count or not all(0 <= block < depth for block in blocks):
        raise CheckpointError(
            f"{what}: lora_layers={list(layers)} does not fit: give {count} different blocks of "
            f"0 to {depth - 1}"
        )
    return blocks


# LoRA layers inside the model's own state dict

# (regex on a key, key of the plain weight)
_PLAIN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(.*\.attn\.qkv)\.(?:qkv|qkv_proj)\.(weight|bias)", r"\1.\2"),
        (r"(.*\.mlp)\.mlp_layer\.(lin[12])\.(weight|bias)", r"\1.\2.\3"),
        (r"(.*\.[qkv]_proj|.*\.out_proj)\.proj\.(weight|bias)", r"\1.\2"),
    )
)
# (regex on a key of A or B, as its "ab" says; function to the weight's key and part)
_HALVES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[str, str]]], ...] = (
    (
        re.compile(r"(?P<at>.*\.attn\.qkv)\.(?:linear_(?P<ab>[ab])_(?P<part>[qkv]))\.weight"),
        lambda m: (f"{m['at']}.weight", m["part"]),
    ),
    (
        re.compile(r"(?P<at>.*\.attn\.qkv)\.w_(?P<ab>[ab])_linear_(?P<part>[qkv])\.weight"),
        lambda m: (f"{m['at']}.weight", m["part"]),
    ),
    (
        re.compile(r"(?P<at>.*\.mlp)\.w_(?P<ab>[ab])_linear_(?P<part>[12])\.weight"),
        lambda m: (f"{m['at']}.lin{m['part']}.weight", ""),
    ),
    (
        re.compile(r"(?P<at>.*\.[qkv]_proj|.*\.out_proj)\.w_(?P<ab>[ab])\.weight"),
        lambda m: (f"{m['at']}.weight", ""),
    ),
)


def split_inline(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[Update]]:
    """Return (tensors under the plain model's keys, updates) of SAMed's and micro-sam's LoRA.

    Raises:
        CheckpointError: half a pair, or a weight with and without LoRA at once.
    """
    plain: dict[str, np.ndarray] = {}
    halves: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for key, array in tensors.items():
        match = next(((m, of) for regex, of in _HALVES if (m := regex.fullmatch(key))), None)
        if match is not None:
            found, target = match
            halves.setdefault(target(found), {})[found["ab"]] = array
            continue
        name = key
        for regex, replacement in _PLAIN:
            name = regex.sub(replacement, name) if regex.fullmatch(name) else name
        if name in plain or (name != key and name in tensors):
            raise CheckpointError(
                f"{key!r:.200} and {name!r:.200} are both there: a weight with and without LoRA, "
                "save the state dict of one model"
            )
        plain[name] = array
    return plain, [_pair(*target, found) for target, found in halves.items()]


def _pair(
    key: str, part: str, halves: Mapping[str, np.ndarray], scale: float = 1.0, note: str = ""
) -> Update:
    name = note or f"{part or 'LoRA'} of {key}"
    if set(halves) != {"a", "b"}:
        raise CheckpointError(
            f"the LoRA pair {name!r:.200} has only its {'AB'['b' in halves]} matrix: truncated, "
            "save the state dict again"
        )
    return Update(key, part, halves["a"], halves["b"], scale, name)


# PEFT

_PEFT_PREFIX = "base_model.model."
_PEFT_HALF = re.compile(r"(?P<at>.+)\.lora_(?P<ab>[AB])(?:\.\w+)?\.weight")
_PEFT_PART = re.compile(r"\.lora_|\.modules_to_save\.|\.base_layer\.|^base_model\.model\.")


def is_peft(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether keys are PEFT's: an adapter, or a model with its adapters not merged."""
    return any(_PEFT_PART.search(key) for key in tensors)


def split_peft(
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any] | None,
    rename: Callable[[str], str],
) -> tuple[dict[str, np.ndarray], list[Update]]:
    """Return (plain tensors, updates) of a PEFT adapter; ``config`` is its adapter_config.json.

    ``rename`` turns a key of the adapted model into the official one.

    Raises:
        CheckpointError: no or an unsupported configuration, half a pair, another kind of adapter.
    """
    settings = _PeftSettings(config)
    plain: dict[str, np.ndarray] = {}
    halves: dict[str, dict[str, np.ndarray]] = {}
    for full, array in tensors.items():
        key = full.removeprefix(_PEFT_PREFIX)
        if found := _PEFT_HALF.fullmatch(key):
            halves.setdefault(found["at"], {})[found["ab"].lower()] = array
            continue
        if ".lora_" in key:
            raise CheckpointError(
                f"{full!r:.200}: only PEFT's plain LoRA of linear layers is supported, not DoRA or "
                "embeddings: merge_and_unload() it with its own code and save the model"
            )
        if ".original_module." in key:
            continue
        key = re.sub(r"\.modules_to_save(?:\.default)?\.", ".", key).replace(".base_layer.", ".")
        plain[rename(key)] = array
    if not halves:
        raise CheckpointError(
            "keys of PEFT without a LoRA pair: name the folder that save_pretrained() wrote, or "
            "merge_and_unload() it with its own code"
        )
    return plain, [settings.update(at, found, rename) for at, found in halves.items()]


class _PeftSettings:
    """PEFT settings give each update its rank and scale, from adapter_config.json."""

    def __init__(self, config: Mapping[str, Any] | None):
        if config is None:
            raise CheckpointError(
                "a PEFT adapter (LoRA) without its adapter_config.json, which holds alpha: name "
                "the folder that save_pretrained() wrote, or merge_and_unload() it and save the "
                "model"
            )
        kind = config.get("peft_type")
        if kind != "LORA":
            raise CheckpointError(
                f"a PEFT adapter of type {kind!r:.80}: only 'LORA' is supported, "
                "merge_and_unload() it with its own code"
            )
        for name, why in (("use_dora", "DoRA"), ("fan_in_fan_out", "transposed weights")):
            if config.get(name):
                raise CheckpointError(
                    f"adapter_config.json: {name} is set ({why}), not supported: "
                    "merge_and_unload() it with its own code"
                )
        self.config = config
        self.rank, self.alpha = config.get("r"), config.get("lora_alpha")
        self.rank_pattern = _patterns(config, "rank_pattern")
        self.alpha_pattern = _patterns(config, "alpha_pattern")

    def update(
        self, at: str, halves: Mapping[str, np.ndarray], rename: Callable[[str], str]
    ) -> Update:
        rank = _for(at, self.rank_pattern, self.rank)
        alpha = _for(at, self.alpha_pattern, self.alpha)
        if type(rank) is not int or not 0 < rank < 2**20 or not _is_number(alpha):
            raise CheckpointError(
                f"adapter_config.json: r is {rank!r:.40} and lora_alpha {alpha!r:.40}: give the "
                "adapter's own file"
            )
        update = _pair(rename(f"{at}.weight"), "", halves, note=at)
        if update.a.ndim != 2 or update.b.ndim != 2:
            raise CheckpointError(
                f"the LoRA pair {at!r:.200} belongs to a convolution: only linear layers are "
                "supported, merge_and_unload() it with its own code"
            )
        if update.a.shape[0] != rank:
            raise CheckpointError(
                f"the LoRA pair {at!r:.200} has rank {update.a.shape[0]}, adapter_config.json says "
                f"{rank}: files of two adapters, download the folder again"
            )
        scale = alpha / (rank**0.5 if self.config.get("use_rslora") else rank)
        return Update(update.key, "", update.a, update.b, float(scale), at)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6  # type: ignore[arg-type]


def _patterns(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values of single modules; regular expressions, which may run forever, raise."""
    value = config.get(name) or {}
    if not isinstance(value, dict) or not all(re.fullmatch(r"[\w.]+", key) for key in value):
        raise CheckpointError(
            f"adapter_config.json: {name} has regular expressions, not supported: "
            "merge_and_unload() it with its own code"
        )
    return value


def _for(at: str, patterns: Mapping[str, Any], default: Any) -> Any:
    """Return the value of the first pattern that is the module's name or its end after a dot.

    Source: PEFT, which matches its patterns so.
    """
    matching = (value for p, value in patterns.items() if at == p or at.endswith(f".{p}"))
    return next(matching, default)
