"""Make small checkpoints as repositories of the hub hold them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from samjax.checkpoint.formats.safetensors import write_safetensors
from samjax.checkpoint.formats.torch_writer import write_torch_file
from tests.support.models import GOLDEN, seeded_tensors

SIZE = GOLDEN.image_size
STOCK_PROCESSOR = {
    "image_processor_type": "SamImageProcessor",
    "pad_size": {"height": SIZE, "width": SIZE},
    "size": {"longest_edge": SIZE},
}
CARD = b"---\nlicense: apache-2.0\n---\n# A small SAM\n\nFor <tests> only.\n"


@cache
def weights(ending: str = ".safetensors", scale: float = 1.0) -> bytes:
    """Return a file with the golden sizes' weights, some of them scaled to be another model's."""
    tensors = seeded_tensors(GOLDEN)
    tensors["mask_decoder.iou_token.weight"] *= scale
    with TemporaryDirectory() as folder:
        path = Path(folder, f"weights{ending}")
        if ending == ".safetensors":
            write_safetensors(path, tensors, None)
        else:
            write_torch_file(path, tensors)
        return path.read_bytes()


def folder_files(**more: bytes) -> dict[str, bytes]:
    """Return the files of a repository of transformers with safetensors."""
    return {
        "config.json": json.dumps({"model_type": "sam"}).encode(),
        "preprocessor_config.json": json.dumps(STOCK_PROCESSOR).encode(),
        "model.safetensors": weights(),
        "README.md": CARD,
        "training.log": b"not needed",
        "pytorch_model.bin": b"not needed either",
        **more,
    }
