"""Downloads end at the published size, leave nothing behind, and trust no marker of others."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from samjax.checkpoint import cache_files
from samjax.checkpoint import download as hub
from samjax.checkpoint.cache_files import is_marked, marker_of, staging, write_marker
from samjax.checkpoint.download import RemoteFile, fetch
from samjax.errors import DownloadError

CONTENT = bytes(range(256)) * 4
SHA256 = "785b0751fc2c53dc14a4ce3d800e69ef9ce1009eb327ccf458afe09c242c26c9"
SMALL = RemoteFile("small.pth", len(CONTENT), SHA256)


class Endless:
    """A server whose answers go on: 40 MB for a file of 1 kB, or hang in the middle."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.sent, self.hangs, self.body = 0, False, bytes(40 * 2**20)
        endless = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                for name, value in endless.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for start in range(0, len(endless.body), 65536):
                        self.wfile.write(endless.body[start : start + 65536])
                        endless.sent += 65536
                    while endless.hangs:
                        time.sleep(0.02)
                except OSError:
                    pass

            def log_message(self, *_arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.hangs = False
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch) -> Iterator[Endless]:
    server = Endless()
    monkeypatch.setenv("SAMJAX_MIRROR", f"http://127.0.0.1:{server.http.server_port}")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(hub, "OFFICIAL", {"small": SMALL})
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SAMJAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def failure() -> str:
    with pytest.raises(DownloadError) as caught:
        fetch("small")
    text = str(caught.value)
    assert "\n" not in text
    return text


# Size


def test_a_download_stops_past_the_published_size(server, cache):
    assert "goes on past the published 1,024 bytes, nothing was kept" in failure()
    assert server.sent < 20 * 2**20  # what the sockets hold; not the 40 MB
    assert list(cache.iterdir()) == []


def test_a_promise_of_more_is_not_even_read(server, cache):
    server.headers = {"Content-Length": str(len(server.body))}
    assert f"the server has {len(server.body):,} bytes, not the published 1,024" in failure()
    assert list(cache.iterdir()) == []


def test_a_compressed_answer_is_not_unpacked(server):
    server.headers = {"Content-Encoding": "gzip"}
    assert "the server compresses the file, unasked" in failure()


def test_the_right_size_is_taken(server, cache):
    server.body = CONTENT
    assert fetch("small").read_bytes() == CONTENT
    assert sorted(path.name for path in cache.iterdir()) == ["small.pth", "small.pth.verified"]


# Killed downloads

_CODE = """
from samjax.checkpoint import download as hub
hub.OFFICIAL = {"small": hub.RemoteFile(%r, %r, %r)}
hub.fetch("small")
"""


def test_leavings_of_a_killed_download_are_removed(server, cache):
    server.body, server.hangs = CONTENT[:500], True
    code = _CODE % (SMALL.name, SMALL.size, SMALL.sha256)
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]

    def partial() -> list[Path]:
        return list(cache.glob(".small.pth.*.partial"))

    deadline = time.monotonic() + 60
    while len(partial()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(partial()) == 2
    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    assert len(partial()) == 2  # nobody was there to remove it
    with staging(cache, SMALL.name):
        assert len(partial()) == 2  # the living download's, and this one
    assert len(partial()) == 1
    processes[1].send_signal(signal.SIGKILL)
    processes[1].wait()
    server.body, server.hangs = CONTENT, False
    assert fetch("small").read_bytes() == CONTENT
    assert sorted(path.name for path in cache.iterdir()) == ["small.pth", "small.pth.verified"]


def test_staging_is_private_to_its_file_and_follows_no_link(cache, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (cache / ".small.pth.0.partial").symlink_to(kept)
    other = cache / ".other.pth.0.partial"
    other.mkdir()
    with staging(cache, "small.pth") as place:
        assert place.parent == cache
    assert (kept / "file").exists()
    assert other.exists()


def test_without_locks_only_old_leavings_go(cache, monkeypatch):
    monkeypatch.setattr(cache_files, "fcntl", None)
    young, old = (cache / f".small.pth.{i}.partial" for i in range(2))
    for place in (young, old):
        place.mkdir()
    before = time.time() - 2 * 24 * 3600
    os.utime(old, (before, before))
    with staging(cache, "small.pth"):
        assert young.exists()
        assert not old.exists()


# Markers


def put(cache: Path, content: bytes = CONTENT) -> Path:
    path = cache / "small.pth"
    path.write_bytes(content)
    return path


def fingerprint(path: Path) -> str:
    return hub._fingerprint(path, SMALL)


def test_a_marker_is_never_written_through_a_link(server, cache, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = put(cache)
    marker_of(path).symlink_to(victim)
    assert fetch("small") == path
    assert victim.read_text() == "precious"
    assert not marker_of(path).is_symlink()
    assert server.sent == 0


@pytest.mark.parametrize("forged", ["a link", "writable by others", "another owner", "its weights"])
def test_a_forged_marker_is_not_believed(server, cache, tmp_path, monkeypatch, forged):
    path = put(cache, CONTENT[:-1] + b"?")  # the right size, other weights
    real = tmp_path / "marker" if forged == "a link" else marker_of(path)
    real.write_text(fingerprint(path))
    real.chmod(0o666 if forged == "writable by others" else 0o644)
    if forged == "a link":
        marker_of(path).symlink_to(real)
    if forged in ("another owner", "its weights"):
        stranger, before = os.getuid() + 1, os.stat_result
        target = marker_of(path) if forged == "another owner" else path
        lstat, follow = Path.lstat, Path.stat

        def owned(found: os.stat_result, at: Path) -> os.stat_result:
            fields = list(found)
            fields[4] = stranger if at == target else fields[4]
            times = {n: getattr(found, n) for n in ("st_mtime_ns", "st_atime_ns", "st_ctime_ns")}
            return before(fields, times)

        monkeypatch.setattr(Path, "lstat", lambda self: owned(lstat(self), self))
        monkeypatch.setattr(Path, "stat", lambda self, **kw: owned(follow(self, **kw), self))
        if os.getuid() == 0:  # root is trusted, by itself, too
            monkeypatch.setattr(os, "getuid", lambda: 0)
    assert not is_marked(path, fingerprint(path))
    server.body = CONTENT
    assert fetch("small").read_bytes() == CONTENT


def test_an_honest_marker_is_believed_and_only_its_owner_can_write_it(cache):
    path = put(cache)
    before = os.umask(0o002)
    try:
        write_marker(path, fingerprint(path))
    finally:
        os.umask(before)
    assert is_marked(path, fingerprint(path))
    assert stat.S_IMODE(marker_of(path).stat().st_mode) == 0o644
    assert not is_marked(path, "another")
    assert not is_marked(cache / "missing", "x")
