import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from samjax.checkpoint import download as hub
from samjax.checkpoint.download import OFFICIAL, RemoteFile, cache_folder, fetch
from samjax.errors import DownloadError

CONTENT = bytes(range(256)) * 1000
SMALL = RemoteFile("small.pth", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Server:
    """Serves files on the loopback, counts requests and misbehaves on demand."""

    def __init__(self):
        self.requests: list[str] = []
        self.body, self.status, self.promised = CONTENT, 200, None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.path)
                self.send_response(server.status)
                self.send_header("Content-Length", str(server.promised or len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/weights"

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("SAMJAX_MIRROR", server.url)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(hub, "OFFICIAL", {"small": SMALL})
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SAMJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def failure(**options) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch("small", **options)
    text = str(caught.value)
    assert "\n" not in text
    assert " at 0x" not in text
    return text


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_official_table():
    assert list(OFFICIAL) == ["vit_b", "vit_l", "vit_h"]
    for model, remote in OFFICIAL.items():
        assert re.fullmatch(f"sam_{model}_[0-9a-f]{{6}}.pth", remote.name)
        assert re.fullmatch("[0-9a-f]{64}", remote.sha256)
    # Parameters in float32, and little else.
    parameters = {"vit_b": 93_735_472, "vit_l": 312_342_832, "vit_h": 641_090_608}
    for model, count in parameters.items():
        assert 0 < OFFICIAL[model].size - 4 * count < 300_000


def test_addresses(monkeypatch):
    monkeypatch.delenv("SAMJAX_MIRROR", raising=False)
    official = "https://dl.fbaipublicfiles.com/segment_anything/small.pth"
    assert hub.remote_url("small") == official
    monkeypatch.setenv("SAMJAX_MIRROR", "")
    assert hub.remote_url("small") == official
    for base in ("https://mirror.example/sam", "https://mirror.example/sam/"):
        monkeypatch.setenv("SAMJAX_MIRROR", base)
        assert hub.remote_url("small") == "https://mirror.example/sam/small.pth"


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    assert cache_folder(tmp_path / "other") == tmp_path / "other"
    monkeypatch.setenv("SAMJAX_CACHE", "~/weights")
    assert cache_folder() == Path.home() / "weights"
    monkeypatch.delenv("SAMJAX_CACHE")
    assert "samjax" in str(cache_folder())


def test_downloads_once(server, cache, capfd):
    path = fetch("small")
    assert path == cache / "small.pth"
    assert path.read_bytes() == CONTENT
    assert server.requests == ["/weights/small.pth"]
    assert fetch("small") == path
    assert len(server.requests) == 1
    assert leftovers(cache) == ["small.pth", "small.pth.verified"]
    assert capfd.readouterr() == ("", "")  # no terminal: no bar, no log


def test_an_argument_chooses_the_folder(server, cache, tmp_path):
    path = fetch("small", cache_dir=tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "small.pth"
    assert not cache.exists()
    assert len(server.requests) == 1


def test_a_verified_file_is_not_hashed_again(server, monkeypatch):
    path = fetch("small")
    assert len(server.requests) == 1

    def never(*_args):
        raise AssertionError("hashed again")

    monkeypatch.setattr(hashlib, "file_digest", never)
    assert fetch("small") == path


def test_a_file_put_there_by_hand_is_hashed_and_used(server, cache):
    cache.mkdir()
    (cache / "small.pth").write_bytes(CONTENT)
    assert fetch("small").read_bytes() == CONTENT
    assert server.requests == []
    assert "small.pth.verified" in leftovers(cache)


@pytest.mark.parametrize("damage", ["shorter", "same size", "same size, after verification"])
def test_a_damaged_cached_file_is_replaced(server, cache, damage):
    if "after" in damage:
        fetch("small")
    before = len(server.requests)
    cache.mkdir(exist_ok=True)
    body = CONTENT[:-1] if damage == "shorter" else CONTENT[:-1] + b"?"
    (cache / "small.pth").write_bytes(body)
    later = (cache / "small.pth").stat().st_mtime_ns + 10**9
    os.utime(cache / "small.pth", ns=(later, later))
    assert fetch("small").read_bytes() == CONTENT
    assert len(server.requests) == before + 1


def test_downloaded_files_follow_the_umask(server, cache):
    before = os.umask(0o027)
    try:
        path = fetch("small")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert server.requests
    assert cache.exists()


def test_unknown_model():
    with pytest.raises(
        DownloadError, match=r"no official weights called 'vit_x': use one of small"
    ):
        fetch("vit_x")


def test_wrong_sha256_keeps_nothing(server, cache):
    server.body = CONTENT[:-1] + b"?"
    text = failure()
    assert "small.pth: the sha256 is not the published one, the file was thrown away" in text
    assert "SAMJAX_MIRROR" in text
    assert leftovers(cache) == []
    server.body = CONTENT
    assert fetch("small").read_bytes() == CONTENT


def test_a_wrong_download_does_not_replace_what_is_there(server, cache):
    cache.mkdir()
    (cache / "small.pth").write_bytes(b"older")
    server.body = b"<html>please log in</html>"
    failure()
    assert (cache / "small.pth").read_bytes() == b"older"
    assert leftovers(cache) == ["small.pth"]


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "set SAMJAX_MIRROR"), (503, "try again later")]
)
def test_http_errors(server, cache, status, advice):
    server.status = status
    text = failure()
    assert f"{server.url}/small.pth: the server answered {status}" in text
    assert advice in text
    assert f"put the file at {cache / 'small.pth'} yourself" in text
    assert leftovers(cache) == []


def test_a_body_that_breaks_off_keeps_nothing(server, cache):
    server.body, server.promised = CONTENT[:1000], len(CONTENT)
    text = failure()
    assert "the download broke off" in text
    assert "nothing was kept: run it again" in text
    assert leftovers(cache) == []


def test_connection_refused_tells_the_way_round(monkeypatch, cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("SAMJAX_MIRROR", f"http://127.0.0.1:{port}")
    text = failure()
    assert f"http://127.0.0.1:{port}/small.pth: no connection (" in text
    assert "Connection refused" in text
    assert f"SAMJAX_MIRROR to the base URL of a mirror, or put the file at {cache}" in text


@pytest.mark.parametrize(
    ("mirror", "text"),
    [
        ("mirror.example/sam", "not a usable URL"),
        ("http://", "not a usable URL"),
        ("ftp://mirror.example", "neither http nor https: correct SAMJAX_MIRROR"),
    ],
)
def test_mirrors_that_are_no_addresses(monkeypatch, mirror, text):
    monkeypatch.setenv("SAMJAX_MIRROR", mirror)
    assert text in failure()


def test_a_proxy_is_used(server, monkeypatch):
    # The loopback server plays the proxy for a host that does not exist.
    monkeypatch.setenv("SAMJAX_MIRROR", "http://weights.invalid/sam")
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/weights"))
    assert fetch("small").read_bytes() == CONTENT
    assert server.requests == ["http://weights.invalid/sam/small.pth"]


def test_a_cache_folder_that_is_a_file(server, cache):
    cache.write_text("")
    text = failure()
    assert f"{cache}: cannot be used as the cache folder" in text
    assert "SAMJAX_CACHE" in text
    assert server.requests == []
    text = failure(cache_dir=cache / "below")
    assert "cannot be used as the cache folder (Not a directory)" in text


def test_too_little_room_is_noticed_before_the_download(server, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    text = failure()
    assert f"{cache}: 0.0 GB free, small.pth needs" in text
    assert "SAMJAX_CACHE" in text
    assert server.requests == []


def test_a_disk_that_fills_up(server, cache, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "move", full)
    assert "the disk or quota is full: make room" in failure()
    assert leftovers(cache) == []
    assert len(server.requests) == 1


def test_an_interrupted_download_leaves_nothing(server, cache, monkeypatch):
    import pooch

    def interrupt(*args):
        Path(args[2]).write_bytes(CONTENT[:1000])  # self, url, output_file, pooch
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("small")
    assert leftovers(cache) == []
    assert server.requests == []


def test_a_read_only_cache_still_serves(server, cache, monkeypatch):
    cache.mkdir()
    (cache / "small.pth").write_bytes(CONTENT)

    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(hub, "_mark_verified", refuse)
    assert fetch("small") == cache / "small.pth"
    assert server.requests == []


def test_concurrent_processes_each_get_the_whole_file(server, cache):
    code = f"""if True:
        from samjax.checkpoint import download as hub
        hub.OFFICIAL = {{"small": hub.RemoteFile({SMALL.name!r}, {SMALL.size}, {SMALL.sha256!r})}}
        print(len(hub.fetch("small").read_bytes()))
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in processes] == [f"{len(CONTENT)}\n"] * 3
    assert leftovers(cache) == ["small.pth", "small.pth.verified"]
    assert 1 <= len(server.requests) <= 3


def test_the_bar_goes_to_stderr_and_only_where_someone_watches(server, cache, monkeypatch, capfd):
    monkeypatch.setattr(hub, "_someone_watches", lambda: True)
    fetch("small", progress=False)
    assert capfd.readouterr() == ("", "")
    (cache / "small.pth").unlink()
    fetch("small")
    out, err = capfd.readouterr()
    assert out == ""
    assert "small.pth: 100%" in err.replace("\r", "\n").splitlines()[-1]
    assert len(server.requests) == 2


def test_poochs_log_level_is_put_back(server):
    import pooch

    before = pooch.get_logger().level
    fetch("small")
    assert pooch.get_logger().level == before
    assert server.requests


def test_a_cached_file_needs_no_network_library(cache):
    cache.mkdir()
    (cache / "small.pth").write_bytes(CONTENT)
    code = f"""if True:
        import sys
        from samjax.checkpoint import download as hub
        hub.OFFICIAL = {{"small": hub.RemoteFile({SMALL.name!r}, {SMALL.size}, {SMALL.sha256!r})}}
        hub.fetch("small")
        assert not {{"requests", "pooch", "tqdm"}} & set(sys.modules), "imported"
    """
    subprocess.run([sys.executable, "-c", code], check=True)
