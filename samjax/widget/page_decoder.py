"""What the page needs to decode masks by itself: runtime, decoder and image embeddings.

Previews then follow the mouse however far away the kernel is. What is saved is always the
kernel's mask. The runtime is onnxruntime-web: files of a folder, or of a pinned address whose
content the browser checks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float16

from samjax.arguments import shown
from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.errors import PromptError
from samjax.files import given_path
from samjax.masks.rules import MaskRule

RUNTIME = "onnxruntime-web"
VERSION = "1.30.0"
ADDRESS = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"


class RuntimeFiles(NamedTuple):
    """A build of the runtime is a module and its WebAssembly, with their hashes at `ADDRESS`."""

    provider: str
    module: str
    module_integrity: str
    wasm: str
    wasm_integrity: str


WASM = RuntimeFiles(
    "wasm",
    "ort.wasm.bundle.min.mjs",
    "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    "ort-wasm-simd-threaded.wasm",
    "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
)
WEBGPU = RuntimeFiles(
    "webgpu",
    "ort.webgpu.bundle.min.mjs",
    "sha384-1ntMeyj+z5diX6vBR5h+zlJBPc4iNvhCxE6nlammh8daBYcLBZkzrwDkuJjhwI+f",
    "ort-wasm-simd-threaded.asyncify.wasm",
    "sha384-EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
)


class PageDecoder:
    """Gives the page what it decodes with.

    Args:
        model: whose masks are shown.
        source: True takes the runtime from `ADDRESS`; a folder holds its files (those of the npm
            package's ``dist``).

    Raises:
        PromptError: the model's masks are not made by logits alone, or a file is missing.
        ExportError: the package that writes the decoder is missing.
    """

    def __init__(self, model: Segmenter, source: bool | str | os.PathLike[str]):
        from samjax.export.graph import import_onnx

        import_onnx()
        if type(model.preset.masks) is not MaskRule or model.config.hq:
            raise PromptError(
                f"decode_in_page: masks of {model.family} with {model.preset.name} are made in the "
                "kernel alone: leave it out"
            )
        self._model = model
        self._folder = None if source is True else given_path(source, PromptError)
        if self._folder:
            check_runtime(self._folder)
        self._decoder: bytes | None = None

    def decoder(self, gpu: bool) -> tuple[dict[str, Any], list[bytes]]:
        """Describe runtime and decoder, with the decoder's bytes and those of a folder's runtime.

        Args:
            gpu: whether the page has WebGPU.
        """
        decoder = self._decoder = self._decoder or _onnx(self._model)
        files = WEBGPU if gpu and self._holds(WEBGPU) else WASM
        content: dict[str, Any] = {"provider": files.provider}
        if self._folder:
            local = [self._folder / files.module, self._folder / files.wasm]
            return content, [decoder, *(path.read_bytes() for path in local)]
        content["module"] = [ADDRESS + files.module, files.module_integrity]
        content["wasm"] = [ADDRESS + files.wasm, files.wasm_integrity]
        return content, [decoder]

    def _holds(self, files: RuntimeFiles) -> bool:
        folder = self._folder
        return folder is None or all((folder / n).is_file() for n in (files.module, files.wasm))

    def embedding(self, image: ImageEmbedding) -> tuple[dict[str, Any], list[bytes]]:
        """Describe an image embedding, with its values in the decoder's layout as float16."""
        content = {
            "original": list(image.original_size),
            "input": list(image.input_size),
            "side": self._model.config.image_size,
            "shape": [1, *np.array(image.features.shape)[[2, 0, 1]].tolist()],
        }
        return content, [_channels_first(image).tobytes()]


def make_page_decoder(model: Segmenter, given: object) -> PageDecoder | None:
    """Return what the argument ``decode_in_page`` asks for; None for False.

    Raises:
        PromptError, ExportError: see `PageDecoder`.
    """
    if given is False:
        return None
    if given is not True and not isinstance(given, (str, os.PathLike)):
        raise PromptError(
            f"decode_in_page is {shown(given)}: use True, False, or the folder with the files of "
            f"{RUNTIME}"
        )
    if "://" in str(given):
        raise PromptError(
            f"decode_in_page is {shown(given)}, an address: pass True, which takes the runtime "
            "from its pinned address, or a folder with its files"
        )
    return PageDecoder(model, given)


def check_runtime(folder: Path) -> None:
    """Check that a folder holds the runtime.

    Raises:
        PromptError: a file is missing.
    """
    if folder.is_file():
        raise PromptError(f"decode_in_page: {folder} is a file: name the folder that holds it")
    if missing := [n for n in (WASM.module, WASM.wasm) if not (folder / n).is_file()]:
        raise PromptError(
            f"decode_in_page: {folder} has no {' and no '.join(missing)}: get them by "
            f"`npm pack {RUNTIME}@{VERSION}` (folder package/dist), or pass True"
        )


def _onnx(model: Segmenter) -> bytes:
    from samjax.export.onnx_clicks import click_graph

    graph = click_graph(model.model.decoder, model.config, "float16")
    return bytes(graph.model("samjax_page", {}).SerializeToString())


def _channels_first(image: ImageEmbedding) -> Float16[np.ndarray, "c g g"]:
    values = np.asarray(jax.device_get(image.features)).astype(np.float32)
    limit = float(np.finfo(np.float16).max)
    return np.ascontiguousarray(values.transpose(2, 0, 1).clip(-limit, limit)).astype(np.float16)
