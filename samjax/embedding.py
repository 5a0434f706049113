"""Hold the embedding of an encoded image, and write it to and read it from an .npz file."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float

from samjax.errors import ImageError
from samjax.files import check_foreign, given_path, replacing


@dataclass(frozen=True)
class ImageEmbedding:
    """Holds everything that the mask decoder needs of one image, on the device.

    Attributes:
        features: output of the image encoder, g x g x C.
        original_size: (H, W) of the image in pixels, before resizing.
        input_size: (h, w) of the image in pixels, inside the network's square input.
        image_hash: hash of the pixels, see ``samjax.image.hash_pixels``; None where nobody asked
            for it.
    """

    features: Float[Array, "g g c"]
    original_size: tuple[int, int]
    input_size: tuple[int, int]
    image_hash: str | None = None


def write_embedding(
    path: str | os.PathLike[str], embedding: ImageEmbedding, fingerprint: str
) -> Path:
    """Write an embedding to an .npz file atomically, and return its path.

    Args:
        path: file to write.
        embedding: embedding of one image.
        fingerprint: hash of the weights, dtype and preprocessing that made the embedding.

    Raises:
        ImageError: something else than an embedding is there, which is never replaced.
    """
    path = given_path(path, ImageError)
    check_foreign([path], _is_embedding, ImageError)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            features=jax.device_get(embedding.features),
            original_size=embedding.original_size,
            input_size=embedding.input_size,
            image_hash=embedding.image_hash or "",
            fingerprint=fingerprint,
        )
    return path


def _is_embedding(path: Path) -> bool:
    """Tell whether a file is an embedding, of whatever weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"features.npy", "fingerprint.npy"} <= set(archive.namelist())


def read_embedding(
    path: str | os.PathLike[str], fingerprint: str, device: jax.Device, model: str
) -> ImageEmbedding:
    """Read an embedding that ``write_embedding`` wrote with the same model.

    Args:
        path: the file.
        fingerprint: ``Segmenter.fingerprint`` of the model that will decode.
        device: where the embedding is put.
        model: the model's name, for errors.

    Raises:
        ImageError: the file is missing, damaged or no embedding, or was written with other
            weights, dtype or preprocessing.
    """
    path = given_path(path, ImageError)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            written_by = str(file["fingerprint"])
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
    if written_by != fingerprint:
        raise ImageError(
            f"{path}: made with other weights, dtype or preprocessing than {model}; "
            "load that model, or encode the image again"
        )
    original, inside = (sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1])
    on_device = jax.device_put(features, device)
    return ImageEmbedding(on_device, original, inside, image_hash or None)
