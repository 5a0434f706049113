"""Images that change are noticed, and made again as they are now; images that do not are not."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from samjax.errors import SamjaxError
from samjax.jobs import AutomaskJob, read_failures, read_results
from samjax.jobs.results import decode_rows
from tests.support.job_images import draw_folder, make_job, picture, result_bytes


def bitmap(number: int) -> bytes:
    """Return a BMP: all of one size have one length."""
    with Image.open(io.BytesIO(picture(2 * number))) as image:
        file = io.BytesIO()
        image.save(file, format="BMP")
    return file.getvalue()


def _replace(path: Path, data: bytes) -> None:
    """Replace a file by one of the same length and time."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def _rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for data in result_bytes(out).values() for row in decode_rows(data)}


def _run(job: AutomaskJob, **options: Any) -> tuple[int, int, int]:
    report = job.run(workers=1, progress=False, **options)
    return report.images, report.skipped, report.failed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bmp").write_bytes(bitmap(number))
    return folder


def test_replaced_in_place_at_the_same_length_and_time(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path / "out")
    assert _run(job) == (3, 0, 0)
    before = result_bytes(tmp_path / "out")
    assert (job.status().changed, _run(job)) == ((), (0, 3, 0))
    _replace(photos / "1.bmp", bitmap(7))
    assert job.status("none").changed == ()
    assert _run(job, check="none") == (0, 3, 0)
    assert result_bytes(tmp_path / "out") == before
    assert job.status().changed == ("1.bmp",)
    assert _run(AutomaskJob.open(tmp_path / "out")) == (1, 2, 0)
    make_job(photos, tmp_path / "fresh").run(workers=1, progress=False)
    assert result_bytes(tmp_path / "out") == result_bytes(tmp_path / "fresh")
    assert (job.status().changed, _run(job)) == ((), (0, 3, 0))


def test_between_plan_and_run(photos: Path, tmp_path: Path):
    """The images are taken as they are when they are read."""
    job = make_job(photos, tmp_path / "out")
    job.plan()
    (photos / "0.bmp").write_bytes(bitmap(8) + b"more")
    _replace(photos / "2.bmp", bitmap(9))
    assert _run(job) == (3, 0, 0)
    make_job(photos, tmp_path / "fresh").run(workers=1, progress=False)
    assert result_bytes(tmp_path / "out") == result_bytes(tmp_path / "fresh")
    assert (job.status().changed, _run(job)) == ((), (0, 3, 0))


def test_touched_copied_and_removed_images_are_kept(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path / "out")
    _run(job)
    before = result_bytes(tmp_path / "out")
    os.utime(photos / "0.bmp")
    shutil.copy(photos / "1.bmp", photos / "new")
    (photos / "new").replace(photos / "1.bmp")
    (photos / "2.bmp").unlink()
    assert (job.status().changed, _run(job)) == ((), (0, 3, 0))
    assert _run(job, check="content") == (0, 3, 0)
    assert result_bytes(tmp_path / "out") == before


def test_changed_to_what_is_no_image(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path / "out")
    _run(job)
    (photos / "1.bmp").write_bytes(b"no longer an image")
    assert _run(job) == (1, 2, 1)
    assert list(read_failures(tmp_path / "out")) == ["1.bmp"]
    assert _run(job) == (0, 3, 1)


def test_an_object_store_is_listed_again(photos: Path, tmp_path: Path):
    store = fsspec.filesystem("memory")
    try:
        for path in photos.iterdir():
            store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
        job = make_job("memory://bucket", "memory://masks")
        assert (_run(job), _run(job)) == ((3, 0, 0), (0, 3, 0))
        store.pipe_file("/bucket/2.bmp", bitmap(6))
        store.pipe_file("/bucket/0.bmp", bitmap(0))  # the same again
        store.pipe_file("/bucket/later.bmp", bitmap(5))  # not in the plan
        assert job.status().changed == ("2.bmp",)
        assert _run(job) == (1, 2, 0)
        (photos / "2.bmp").write_bytes(bitmap(6))
        make_job(photos, tmp_path / "fresh").run(workers=1, progress=False)
        assert list(read_results("memory://masks")) == list(read_results(tmp_path / "fresh"))
        assert job.status().changed == ()
    finally:
        store.store.clear()
        store.pseudo_dirs[:] = [""]


def test_addresses_of_a_list_are_compared_by_content(photos: Path, tmp_path: Path):
    """Nothing is asked of a store when a list is planned, so that the plan knows no etags."""
    store = fsspec.filesystem("memory")
    try:
        for path in photos.iterdir():
            store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
        job = make_job([f"memory://bucket/{i}.bmp" for i in range(3)], tmp_path / "out")
        _run(job)
        store.pipe_file("/bucket/2.bmp", bitmap(6))
        assert (job.status().changed, _run(job)) == ((), (0, 3, 0))
        assert job.status("content").changed == ("2.bmp",)
        assert _run(job, check="content") == (1, 2, 0)
        assert _run(job, check="content") == (0, 3, 0)
    finally:
        store.store.clear()
        store.pseudo_dirs[:] = [""]


def _pack(photos: Path, tar: Path) -> None:
    with tarfile.open(tar, "w") as file:
        for path in sorted(photos.iterdir()):
            file.add(path, arcname=path.name)


def test_a_tar_that_is_made_anew(photos: Path, tmp_path: Path):
    tar, out = tmp_path / "s.tar", tmp_path / "out"
    _pack(photos, tar)
    job = make_job(tar, out)
    assert _run(job) == (3, 0, 0)
    os.utime(tar)
    assert _run(job) == (0, 3, 0)
    _replace(photos / "1.bmp", bitmap(7))
    _pack(photos, tar)
    assert job.status().changed == ("s/1.bmp",)
    assert _run(job) == (1, 2, 1)
    assert read_failures(out) == {
        "s/1.bmp": f"{tar}: changed after it was planned, so that the places of its images are "
        "not known: plan it again for another destination"
    }
    assert _run(job) == (0, 3, 1)


def test_a_shard_that_is_run_alone_looks_too(tmp_path: Path):
    """What a driver found reaches the workers: a shard that is run by itself looks, too."""
    photos = draw_folder(tmp_path / "photos", 3)
    job = make_job(photos, tmp_path / "out")
    _run(job)
    (photos / "a/002.png").write_bytes(picture(9))
    shard = next(i for i in range(2) if job.run_shard(i).skipped < (2, 1)[i])
    changed = _rows(tmp_path / "out")["a/002.png"]
    assert changed["bytes"] == len(picture(9))
    assert job.run_shard(shard).skipped == (2, 1)[shard]


def _short(cut: Callable[..., bytes]) -> Callable[..., bytes]:
    def call(*args: Any, **kwargs: Any) -> bytes:
        data = cut(*args, **kwargs)
        return data[:-1] if "bmp" in str(args) else data

    return call


def test_a_store_that_gives_less_than_there_is(photos: Path, tmp_path: Path, monkeypatch: Any):
    job = make_job(photos, tmp_path / "out")
    job.plan()
    local = type(fsspec.filesystem("file"))
    monkeypatch.setattr(local, "cat_file", _short(local.cat_file))
    assert _run(job) == (3, 0, 3)
    size = (photos / "0.bmp").stat().st_size
    reason = read_failures(tmp_path / "out")["0.bmp"]
    assert reason == f"{photos}/0.bmp: gave {size - 1} of {size} bytes: try again"


def test_unknown_check_is_told_before_anything_is_written(photos: Path, tmp_path: Path):
    job = make_job(photos, tmp_path / "out")
    with pytest.raises(SamjaxError, match=r"^check 'hash': use listing, content or none$"):
        job.run(check="hash")
    assert not (tmp_path / "out").exists()
