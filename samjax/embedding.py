"""Image embeddings: what is kept of an encoded image, and its file (.npz)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float

from samjax.engine import Segmenter
from samjax.errors import ImageError
from samjax.files import replacing
from samjax.preprocess import Pixels


@dataclass(frozen=True)
class ImageEmbedding:
    """One encoded image: all that decoding needs, on the device.

    ``original_size`` and ``input_size`` are (H, W) in pixels, before and after resizing;
    ``image_hash`` identifies the pixels, ``fingerprint`` the weights that encoded them.
    """

    features: Float[Array, "g g c"]
    original_size: tuple[int, int]
    input_size: tuple[int, int]
    image_hash: str


def hash_pixels(pixels: Pixels) -> str:
    """What ``ImageEmbedding.image_hash`` is for an RGB image."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16)
    digest.update(repr(pixels.shape).encode())
    return digest.hexdigest()


def write_embedding(path: str | os.PathLike, embedding: ImageEmbedding, fingerprint: str) -> Path:
    """Write an embedding under a temporary name, and rename it. Returns the path."""
    path = Path(path).expanduser()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            features=np.asarray(embedding.features),
            original_size=embedding.original_size,
            input_size=embedding.input_size,
            image_hash=embedding.image_hash,
            fingerprint=fingerprint,
        )
    return path


def read_embedding(path: str | os.PathLike, model: Segmenter) -> ImageEmbedding:
    """Read what ``write_embedding`` wrote with the same model.

    Raises:
        ImageError: not such a file, or written with other weights, dtype or preprocessing.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            fingerprint = str(file["fingerprint"])
            features = file["features"].astype(np.float32)
            sizes = [tuple(map(int, file[k])) for k in ("original_size", "input_size")]
            image_hash = str(file["image_hash"])
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file: save_embedding writes one") from None
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        raise ImageError(
            f"{path}: not an image embedding of samjax, or damaged ({type(error).__name__}); "
            "encode the image again"
        ) from error
    if fingerprint != model.fingerprint:
        raise ImageError(
            f"{path}: made with other weights, dtype or preprocessing than {model!r}; "
            "load that model, or encode the image again"
        )
    original, inside = (sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1])
    on_device = jax.device_put(features, model.device)
    return ImageEmbedding(on_device, original, inside, image_hash)
