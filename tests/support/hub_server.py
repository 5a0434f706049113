"""Serve the Hugging Face hub's API, as huggingface_hub asks it, and files of releases.

Asked are: the repository and its commit (/api/models/NAME/revision/REVISION), the list of files
(/api/models/NAME/tree/COMMIT), HEAD and GET of each file (/NAME/resolve/COMMIT/FILE, a redirect
to another address for files of git LFS), and ranges of files after a broken connection.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
_LFS = (".safetensors", ".bin", ".pth", ".pt")


@dataclass
class Repository:
    """A repository: files by name for each commit, and what its revisions stand for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    new_name: str = ""
    tags: tuple[str, ...] = ("license:apache-2.0",)

    def commit(self, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Add a commit with these files and let a branch stand for it."""
        text = repr(sorted(files.items())) + str(len(self.commits))
        name = hashlib.sha1(text.encode()).hexdigest()
        self.commits[name] = dict(files)
        self.revisions[revision] = name
        return name


def git_hash(data: bytes) -> str:
    """Return the hash of a blob in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer:
    """A hub on the loopback that records requests and misbehaves on demand.

    Attributes:
        url: its address.
        repositories: by "owner/name".
        releases: other files, by path.
        requests: "METHOD path" of each request.
        statuses: answers instead of the right one, by a part of "METHOD path".
        replaced: other bytes than the right ones, by file name.
        breaks: how often a transfer still breaks off half-way.
        halfway: set when a transfer stopped half-way, while ``stall`` is True, until it is not.
        silent: "METHOD path" parts that get no answer: the connection is closed.
        accounts: token to "read" or "none", its permission on private repositories.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.releases: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.statuses: dict[str, int] = {}
        self.replaced: dict[str, bytes] = {}
        self.silent: set[str] = set()
        self.breaks = 0
        self.stall = False
        self.halfway = threading.Event()
        self.accounts = {TOKEN: "read", "hf_weak": "none"}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.cdn = f"http://localhost:{self.http.server_port}"  # another host, as the real one

    def add(self, name: str, files: Mapping[str, bytes], **options: bool) -> str:
        """Add a repository with one commit and return the commit."""
        self.repositories[name] = Repository(**options)  # type: ignore[arg-type]
        return self.repositories[name].commit(files)

    def asked(self, part: str) -> list[str]:
        """Return the requests that contain ``part``."""
        return [request for request in self.requests if part in request]

    def close(self) -> None:
        """Stop the server."""
        self.stall = False
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def _handler(server: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def log_message(self, *_args: object) -> None:
            pass

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            request = f"{self.command} {path}"
            server.requests.append(request)
            if any(part in request for part in server.silent):
                self.close_connection = True
                return
            for part, status in server.statuses.items():
                if part in request:
                    self.send(status, b"", {})
                    return
            parts = path.strip("/").split("/")
            if path in server.releases:
                self.send_file(parts[-1], server.releases[path], {})
            elif parts[:2] == ["api", "models"] and len(parts) >= 4:
                self.api("/".join(parts[2:4]), parts[4:])
            elif parts[0] == "cdn":
                self.cdn(parts[1], parts[2])
            elif len(parts) > 4 and parts[2] == "resolve":
                self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                self.error(404, "EntryNotFound")

        def found(self, name: str) -> Repository | None:
            """Return the repository if the token may read it; otherwise answer with an error."""
            repository = server.repositories.get(name)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token and token not in server.accounts:
                self.error(401, "", "Invalid credentials in Authorization header")
                return None
            if repository is not None and repository.new_name:
                moved = self.path.replace(name, repository.new_name, 1)
                self.send(307, b"", {"Location": moved})
                return None
            if repository is None or (repository.private and not token):
                status = 404 if token else 401
                self.error(status, "RepoNotFound", "Repository not found")
                return None
            if repository.private and server.accounts[token] == "none":
                self.error(403, "", "Forbidden: the token lacks the permission")
                return None
            if repository.gated and server.accounts.get(token) != "read":
                self.error(403 if token else 401, "GatedRepo", "Access is restricted")
                return None
            return repository

        def api(self, name: str, rest: list[str]) -> None:
            repository = self.found(name)
            if repository is None:
                return
            revision = "/".join(rest[1:]) or "main"
            commit = repository.revisions.get(revision, revision)
            if commit not in repository.commits:
                self.error(404, "RevisionNotFound")
                return
            files = repository.commits[commit]
            if rest[:1] == ["tree"]:
                self.send_json([_listed(path, data) for path, data in files.items()])
                return
            self.send_json(
                {
                    "_id": "1",
                    "id": name,
                    "modelId": name,
                    "sha": commit,
                    "private": repository.private,
                    "gated": repository.gated,
                    "tags": list(repository.tags),
                    "siblings": [{"rfilename": path} for path in files],
                }
            )

        def resolve(self, name: str, revision: str, file: str) -> None:
            repository = self.found(name)
            if repository is None:
                return
            commit = repository.revisions.get(revision, revision)
            data = repository.commits.get(commit, {}).get(file)
            if data is None:
                self.error(404, "EntryNotFound")
                return
            told = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if file.endswith(_LFS):
                sha256 = hashlib.sha256(data).hexdigest()
                told |= {
                    "X-Linked-Etag": f'"{sha256}"',
                    "X-Linked-Size": str(len(data)),
                    "Location": f"{server.cdn}/cdn/{sha256}/{file.rsplit('/', 1)[-1]}",
                }
                self.send(302, b"", told)
            else:
                self.send_file(file, data, told | {"ETag": f'"{git_hash(data)}"'})

        def cdn(self, sha256: str, file: str) -> None:
            for repository in server.repositories.values():
                for files in repository.commits.values():
                    for data in files.values():
                        if hashlib.sha256(data).hexdigest() == sha256:
                            self.send_file(file, data, {"Accept-Ranges": "bytes"})
                            return
            self.error(404, "EntryNotFound")

        def send_file(self, file: str, data: bytes, told: dict[str, str]) -> None:
            data = server.replaced.get(file, data)
            start = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            if start and int(start):
                part = data[int(start) :]
                told["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self.send(206, part, told)
            elif server.breaks > 0 and self.command == "GET" and file.endswith(_LFS):
                server.breaks -= 1
                self.send(200, data[: len(data) // 2], told, promised=len(data))
                self.close_connection = True
            elif server.stall and self.command == "GET" and file.endswith(_LFS):
                self.send(200, data[: len(data) // 2], told, promised=len(data))
                server.halfway.set()
                while server.stall:
                    time.sleep(0.01)
                with suppress(OSError):  # the reader was killed meanwhile
                    self.wfile.write(data[len(data) // 2 :])
            else:
                self.send(200, data, told)

        def send_json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def error(self, status: int, code: str, message: str = "") -> None:
            told = {"X-Error-Code": code} if code else {}
            self.send(status, b"", told | ({"X-Error-Message": message} if message else {}))

        def send(
            self, status: int, body: bytes, told: Mapping[str, str], promised: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if promised is None else promised))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _listed(path: str, data: bytes) -> dict[str, object]:
    """Return the entry of a file in the list of files."""
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(data)}
    if path.endswith(_LFS):
        sha256 = hashlib.sha256(data).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\n".encode()
        entry["oid"] = git_hash(pointer)
        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": len(pointer)}
    else:
        entry["oid"] = git_hash(data)
    return entry
