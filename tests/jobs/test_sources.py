"""Sources of all kinds list the same images, and stores that fail lose none."""

from __future__ import annotations

import errno
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from samjax.errors import SamjaxError, StorageError
from samjax.jobs import read_results, storage
from samjax.jobs.sources import list_source
from samjax.jobs.storage import read_bytes, write_bytes
from tests.support.job_images import draw_folder, make_job, picture, result_bytes

_NAMES = ["a/000.png", "a/002.png", "b/001.png"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "photos", 3)


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def _upload(store: Any, photos: Path) -> None:
    for name in _NAMES:
        store.pipe_file(f"/bucket/{name}", (photos / name).read_bytes())
    store.pipe_file("/bucket/.hidden/x.png", b"")
    store.pipe_file("/bucket/notes.txt", b"")


def test_object_store_in_and_out(photos: Path, memory: Any, tmp_path: Path):
    _upload(memory, photos)
    images = list_source("memory://bucket")
    assert [image.name for image in images] == _NAMES
    assert images[0].size == (photos / _NAMES[0]).stat().st_size
    assert [i.name for i in list_source("memory://bucket/b/*.png")] == ["001.png"]
    make_job("memory://bucket", "memory://masks").run(workers=1, progress=False)
    make_job(photos, tmp_path / "out").run(workers=1, progress=False)
    assert list(read_results("memory://masks")) == list(read_results(tmp_path / "out"))


def test_tar_members_are_read_in_place(photos: Path, tmp_path: Path, memory: Any):
    for number, names in enumerate((_NAMES[:2], _NAMES[2:])):
        with tarfile.open(tmp_path / f"s{number}.tar", "w") as tar:
            for name in names:
                tar.add(photos / name, arcname=name)
                tar.add(photos / name, arcname=name.replace("png", "json"))
    images = list_source(tmp_path / "s*.tar")
    assert [image.name for image in images] == ["s0/a/000.png", "s0/a/002.png", "s1/b/001.png"]
    for image, name in zip(images, _NAMES, strict=True):
        assert read_bytes(image.location, image.start, image.size) == (photos / name).read_bytes()
    memory.pipe_file("/t/s0.tar", (tmp_path / "s0.tar").read_bytes())
    assert [i[2:4] for i in list_source("memory://t/s0.tar")] == [i[2:4] for i in images[:2]]
    make_job(tmp_path / "s*.tar", tmp_path / "tars").run(workers=1, progress=False)
    make_job(photos, tmp_path / "out").run(workers=1, progress=False)
    assert [i[1:] for i in read_results(tmp_path / "tars")] == [
        i[1:] for i in read_results(tmp_path / "out")
    ]
    (tmp_path / "bad.tar").write_bytes(b"x" * 600)
    with pytest.raises(SamjaxError, match=r"bad.tar: is no tar, or is damaged"):
        list_source(tmp_path / "bad.tar")
    with pytest.raises(SamjaxError, match=r"x.tar.gz: members of a packed tar"):
        list_source("x.tar.gz")


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet", "sequence"])
def test_lists(kind: str, photos: Path, tmp_path: Path):
    source: Any = tmp_path / f"list.{kind}"
    relative = [f"photos/{name}" for name in _NAMES]
    if kind == "txt":
        source.write_text("# a comment\n" + "\n".join(relative) + "\n\n")
    elif kind == "csv":
        rows = [f'{i},"{name}"' for i, name in enumerate(relative)]
        source.write_text("\n".join(["id,path", *rows]))
    elif kind == "parquet":
        pyarrow.parquet.write_table(
            pa.table({"url": [str(tmp_path / r) for r in relative]}), source
        )
    else:
        source = [tmp_path / r for r in relative]
    images = list_source(source)
    assert [image.name for image in images] == _NAMES
    assert [Path(image.location).read_bytes() for image in images] == [
        (photos / name).read_bytes() for name in _NAMES
    ]


def test_lists_that_cannot_be_used(photos: Path, tmp_path: Path):
    name = str(photos / _NAMES[0])
    with pytest.raises(SamjaxError, match=r"000.png: is listed twice: leave one out"):
        list_source([name, name])
    with pytest.raises(SamjaxError, match=r"would both be 'x/a.png' in the results: rename one"):
        list_source(["https://hub.example.org/x/a.png?v=1", "https://hub.example.org/x/a.png",
                     "https://hub.example.org/y/a.png"])  # fmt: skip
    (tmp_path / "l.csv").write_text("id,file\n1,a.png\n")
    with pytest.raises(SamjaxError, match=r"l.csv: has no column path, url but id, file"):
        list_source(tmp_path / "l.csv")
    with pytest.raises(SamjaxError, match=r"none.txt: no such file or object"):
        list_source(tmp_path / "none.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(SamjaxError, match=r"empty.txt: no images found"):
        list_source(tmp_path / "empty.txt")
    (tmp_path / "l.parquet").write_bytes(b"PAR1")
    with pytest.raises(SamjaxError, match=r"l.parquet: is no list of images"):
        list_source(tmp_path / "l.parquet")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_addresses_of_the_web(photos: Path, tmp_path: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(photos)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        root = f"http://127.0.0.1:{server.server_port}"
        job = make_job([f"{root}/{name}" for name in [*_NAMES, "a/gone.png"]], tmp_path / "web")
        assert job.run(workers=1, progress=False).failed == 1
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch, memory: Any) -> dict[str, int]:
    """Let every third request to the store in memory fail, and none wait."""
    counts = {"calls": 0, "errors": 0}
    monkeypatch.setattr(storage, "_FIRST_WAIT", 0.001)

    def fail(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts["calls"] += 1
            if counts["calls"] % 3 == 0:
                counts["errors"] += 1
                raise ConnectionResetError(errno.ECONNRESET, "reset by the test")
            return method(*args, **kwargs)

        return call

    for name in ("cat_file", "pipe_file", "find", "info", "_open"):
        # Of the class: each thread has a file system of its own.
        monkeypatch.setattr(type(memory), name, fail(getattr(type(memory), name)))
    return counts


def test_store_that_fails_now_and_then_loses_nothing(
    photos: Path, memory: Any, tmp_path: Path, request: pytest.FixtureRequest
):
    _upload(memory, photos)
    counts = request.getfixturevalue("shaky")
    assert make_job("memory://bucket", "memory://masks").run(workers=1, progress=False).failed == 0
    assert counts["errors"] >= 8
    make_job(photos, tmp_path / "out").run(workers=1, progress=False)
    assert list(read_results("memory://masks")) == list(read_results(tmp_path / "out"))


@pytest.mark.parametrize(
    ("error", "calls", "message"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), 6, "reset after 6 attempts"),
        (PermissionError(errno.EACCES, "x"), 1, "no permission: check its owner and your"),
        (FileNotFoundError(errno.ENOENT, "x"), 1, "no such file or object: check the address"),
        (OSError(errno.ENOSPC, "x"), 1, "No space left on device: free some space"),
        (type("NoCredentialsError", (Exception,), {})("unable"), 1, "no credentials (unable)"),
    ],
)
def test_attempts_have_a_limit(
    error: Exception, calls: int, message: str, memory: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(storage, "_FIRST_WAIT", 0.001)
    count = 0

    def fail(*_: Any, **__: Any) -> bytes:
        nonlocal count
        count += 1
        raise error

    monkeypatch.setattr(memory, "cat_file", fail)
    with pytest.raises(StorageError) as caught:
        read_bytes("memory://bucket/x.png")
    assert str(caught.value).startswith("memory://bucket/x.png: ")
    assert message in str(caught.value)
    assert count == calls


def test_full_disk_leaves_the_old_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "object"
    write_bytes(str(path), b"old")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"object: No space left on device: free some space"):
        write_bytes(str(path), b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["object"]
    assert path.read_bytes() == b"old"


def test_run_in_a_full_store_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    job = make_job(photos, out)
    job.run_shard(0)
    before = result_bytes(out)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(SamjaxError, match=r"No space left on device"):
        job.run_shard(1)
    monkeypatch.undo()
    assert result_bytes(out) == before
    assert picture(0)
