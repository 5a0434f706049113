"""Read many images and make their masks: the one way of the folder job and of shards."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from samjax.automatic.generator import SamAutomaticMaskGenerator
from samjax.automatic.options import AutomaticOptions
from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.errors import SamjaxError
from samjax.image.memory import PixelBudget
from samjax.image.preset import Pixels, PreparedImage, prepare, read_for
from samjax.image.read import image_size
from samjax.image.stored import StoredImage
from samjax.jobs.contents import FileState
from samjax.jobs.pipeline import Batched, Check, Outcome, Work, process
from samjax.masks.rle import Record

_STREAMS = 2  # threads that decode what one device encoded in batches


class Fetched(NamedTuple):
    """Hold where the pixels of an image come from, with the state of this file."""

    source: Path | StoredImage
    state: FileState
    etag: str | None = None


class Loaded(NamedTuple):
    """Hold an image that was read; its pixels are dropped when they are no longer needed."""

    state: FileState
    etag: str | None
    size: tuple[int, int]
    pixels: Pixels | None
    prepared: PreparedImage | None


def make_masks(
    items: Sequence[Any],
    fetch: Callable[[Any], Fetched],
    loaders: Sequence[Callable[[], Segmenter]],
    options: AutomaticOptions,
    write: Callable[[Any, Loaded, list[Record]], Any],
    *,
    on_empty: Callable[[Any, str], None] = lambda *_: None,
    keep_pixels: bool = False,
    images_at_once: int | None = None,
) -> Generator[Outcome | None, None, None]:
    """Read images ahead, make the masks of each on one of several devices, and write behind.

    Args:
        items: names of the images, for the functions.
        fetch: function of an item that opens its file.
        loaders: functions that return the model, one for each device, the first one at once.
        options: of the masks; their records have COCO run lengths.
        write: function of an item, its image and records; its value is the outcome's result.
        on_empty: function of an item without masks and the reason.
        keep_pixels: let ``write`` have the pixels.
        images_at_once: images that a device encodes together; None: what suits it, on CPUs 1. In
            a batch, two threads decode: the points of one image while the masks of another are
            filtered on the host. Crops and tiles are encoded one by one.

    Yields:
        Outcomes as they come, and None at times without any. Close the iterator to stop early.
    """
    if not items:
        return
    options = replace(options, output_mode="coco_rle")
    whole = options.crop_n_layers == 0 and options.tile_size is None
    first, budget = loaders[0](), PixelBudget()

    def read(item: Any) -> Loaded:
        source, state, etag = fetch(item)
        height, width = image_size(source)
        pixels = budget.read(height * width, lambda: read_for(first.preset, source))
        size = (pixels.shape[0], pixels.shape[1])
        prepared = prepare(pixels, first.config.image_size, first.preset) if whole else None
        kept = pixels if keep_pixels or not whole else None
        return Loaded(state, etag, size, kept, prepared)

    def opener(load: Callable[[], Segmenter]) -> Callable[[Check], Work | Batched]:
        def open_device(check: Check) -> Work | Batched:
            model = load()
            generator = SamAutomaticMaskGenerator(model, **vars(options))
            size = images_at_once or model.images_at_once

            def work(item: Any, begun: Begun) -> tuple[Loaded, list[Record]]:
                image, embedding = begun
                records = generator.generate(
                    image.pixels,
                    embedding=embedding,
                    progress=lambda *_: check(),
                    on_empty=lambda advice: on_empty(item, advice),
                )
                pixels = image.pixels if keep_pixels else None
                return image._replace(pixels=pixels, prepared=None), records

            def alone(item: Any, image: Loaded) -> tuple[Loaded, list[Record]]:
                return work(item, _begin(model, image))

            if not whole or (size == 1 and model.device.platform == "cpu"):
                return alone
            return Batched(size, lambda batch: _begin_all(model, batch, size), _STREAMS, work)

        return open_device

    openers = [opener(lambda: first), *map(opener, loaders[1 : len(items)])]
    yield from process(
        items, read, openers, lambda item, worked: write(item, *worked), stopping=budget.close
    )


class Begun(NamedTuple):
    """Hold an image with its embedding, which the device may still be at; None: of crops."""

    image: Loaded
    embedding: ImageEmbedding | None


def _begin(model: Segmenter, image: Loaded) -> Begun:
    return Begun(image, None if image.prepared is None else model.encode(image.prepared))


def _begin_all(
    model: Segmenter, batch: Sequence[tuple[Any, Loaded]], size: int
) -> list[Begun | Exception]:
    """Encode images together; if that fails, each alone, so that one image fails only itself."""
    images = [image for _, image in batch]
    if size == 1:
        return [_attempt(model, image) for image in images]
    prepared = [image.prepared for image in images if image.prepared is not None]
    try:
        found = model.encode_batch(prepared, size)
        return [Begun(*pair) for pair in zip(images, found, strict=True)]
    except Exception:
        return [_attempt(model, image) for image in images]


def _attempt(model: Segmenter, image: Loaded) -> Begun | Exception:
    try:
        return _begin(model, image)
    except Exception as error:
        return error


def reason(outcome: Outcome) -> str:
    """Say in one line why an image failed."""
    error = outcome.error
    name = str(getattr(outcome.item, "path", None) or outcome.item.location)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        text = "out of memory; try fewer --points-per-batch, --tile-size or --dtype bfloat16"
    elif isinstance(error, SamjaxError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    line = " ".join(text.split())
    return line if line.startswith(name) else f"{name}: {line}"
