"""Images in batches get the masks that they get alone; one that fails takes none with it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samjax
from samjax.engine.segmenter import Segmenter
from samjax.image.preset import prepare
from samjax.jobs import AutomaskJob, pipeline, read_failures
from samjax.jobs.results import decode_rows
from tests.support.job_images import draw_folder, make_job, result_bytes


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("batches") / "photos", 5)


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    make_job(photos, out, 5).run(workers=1, progress=False)
    return out


def _run(job: AutomaskJob, images_at_once: int) -> tuple[int, int]:
    report = job.run(workers=1, progress=False, images_at_once=images_at_once)
    return report.images, report.failed


def _rows(out: Path) -> list[dict[str, Any]]:
    return [row for data in result_bytes(out).values() for row in decode_rows(data)]


def test_the_same_masks_in_batches(
    photos: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Five images are two batches of two, and one that is filled up."""
    sizes, threads = [], set()
    encode, decode = Segmenter.encode_batch, Segmenter.decode
    never = pytest.fail

    def counting(self: Segmenter, images: Any, size: int) -> Any:
        sizes.append((len(images), size))
        return encode(self, images, size)

    def seen(self: Segmenter, *args: Any, **options: Any) -> Any:
        threads.add(threading.get_ident())
        return decode(self, *args, **options)

    monkeypatch.setattr(Segmenter, "encode_batch", counting)
    monkeypatch.setattr(Segmenter, "decode", seen)
    monkeypatch.setattr(Segmenter, "encode", lambda *_: never("one by one"))
    monkeypatch.setattr(pipeline, "_GATHERING", 1.0)
    assert _run(make_job(photos, tmp_path, 5), 2) == (5, 0)
    assert sum(count for count, _ in sizes) == 5
    assert {size for _, size in sizes} == {2}
    assert max(count for count, _ in sizes) == 2
    assert len(threads) == 2
    for row, expected in zip(_rows(tmp_path), _rows(alone), strict=True):
        assert len(row["masks"]) == len(expected["masks"]) > 0
        for mask, other in zip(row["masks"], expected["masks"], strict=True):
            assert (mask["counts"], mask["bbox"]) == (other["counts"], other["bbox"])
            assert mask["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-5)
            assert mask["stability_score"] == pytest.approx(other["stability_score"], abs=1e-5)


def test_an_embedding_does_not_depend_on_the_images_beside_it():
    sam = samjax.load()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(2)]
    one, two = (prepare(image, sam.config.image_size, sam.preset) for image in images)
    first = [next(sam.encode_batch(batch, 2)) for batch in ([one], [one, two])]
    _, second = sam.encode_batch([two, one], 2)
    features = [np.asarray(found.features) for found in (*first, second)]
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_array_equal(features[0], features[2])
    np.testing.assert_allclose(features[0], np.asarray(sam.encode(one).features), atol=2e-4)


def test_a_batch_that_fails_is_encoded_one_by_one(
    photos: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Segmenter, "encode_batch", full)
    assert _run(make_job(photos, tmp_path, 5), 4) == (5, 0)
    assert result_bytes(tmp_path) == result_bytes(alone)


def test_images_that_fail_in_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = draw_folder(tmp_path / "photos", 4)
    (source / "a/bad.png").write_bytes(b"nothing")
    generate, failing = samjax.SamAutomaticMaskGenerator.generate, iter([MemoryError()])

    def once(self: Any, *args: Any, **options: Any) -> Any:
        if error := next(failing, None):
            raise error
        return generate(self, *args, **options)

    monkeypatch.setattr(samjax.SamAutomaticMaskGenerator, "generate", once)
    assert _run(make_job(source, tmp_path / "out", 9), 3) == (5, 2)
    reasons = "\n".join(read_failures(tmp_path / "out").values())
    assert "is not an image" in reasons
    assert "out of memory" in reasons


def test_threads_of_batches_end_with_the_pipeline():
    before = threading.active_count()
    started = threading.Event()

    def opener(check: pipeline.Check) -> pipeline.Batched:
        def work(item: int, begun: int) -> int:
            started.set()
            while item == 5:
                check()
            return begun

        return pipeline.Batched(4, lambda batch: [read + 1 for _, read in batch], 2, work)

    whole = pipeline.process(range(5), lambda i: i, [opener], lambda i, worked: worked - i)
    assert sorted(o for o in whole if o) == [(i, 1, None) for i in range(5)]
    stopped = pipeline.process(range(99), lambda i: i, [opener], lambda i, _: i)
    assert next(stopped) is not None
    assert started.wait(10)
    stopped.close()
    assert threading.active_count() == before


def test_as_many_batches_in_memory_as_said():
    lock, counts = threading.Lock(), {"now": 0, "most": 0}

    def count(change: int) -> None:
        with lock:
            counts["now"] += change
            counts["most"] = max(counts.values())

    def opener(_: pipeline.Check) -> pipeline.Batched:
        return pipeline.Batched(4, lambda batch: [read for _, read in batch], 2, lambda _, b: b)

    def read(item: int) -> int:
        count(1)
        return item

    outcomes = pipeline.process(range(200), read, [opener], lambda *_: count(-1))
    assert len([o for o in outcomes if o]) == 200
    assert counts["most"] <= 6 + 3 * 4
