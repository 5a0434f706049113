"""Parse addresses hf://owner/name[@revision][/file] and choose the files of a repository."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import unquote

from samjax.errors import CheckpointError

SCHEME = "hf://"
_FORM = "write hf://owner/name, hf://owner/name@revision or hf://owner/name@revision/file"
_REVISION = re.compile(r"[^\s?#\\:~^*\[/][^\s?#\\:~^*\[]*")  # as git allows names
# Nearly an address: another count of slashes, capitals, or the page of a repository or file.
_NEARLY = re.compile(r"hf:/*(.+)", re.IGNORECASE)
_PAGE = re.compile(
    r"(?:https?:/+)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)"
    r"(?:/(?:tree|blob|resolve|raw|commit)/([^/?#]+)(/[^?#]*)?)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
# Revisions with a slash that the hub itself makes; others write it as %2F.
_REFERENCE = re.compile(r"(refs/(?:pr/\d+|convert/[^/]+))(?:/|$)")
_COMMIT = re.compile(r"[0-9a-f]{40}", re.IGNORECASE)

_CONFIGURATION = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "adapter_config.json",
    # By these the reader knows weights that transformers trained: families/huggingface.py
    "trainer_state.json",
    "training_args.bin",
)
CARD = "README.md"
# In the order in which the reader of folders takes them
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
# Of files that repositories of weights have, too
_NO_WEIGHTS = (".json", ".md", ".txt", ".py", ".yaml", ".yml", ".png", ".jpg", ".jpeg", ".ipynb")
_ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class HubAddress:
    """An address on the Hugging Face hub.

    Attributes:
        repository: "owner/name".
        revision: branch, tag or commit; None: the main branch.
        file: a file or folder in the repository; None: the repository decides.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision is None else "@" + _quoted(self.revision)
        return SCHEME + self.repository + revision + ("" if self.file is None else "/" + self.file)

    @property
    def commit(self) -> str | None:
        """Return the revision if it is a commit, which never changes."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def at(self, revision: str | None) -> HubAddress:
        """Return the same address at another revision."""
        return replace(self, revision=revision)


@dataclass(frozen=True)
class ChosenFiles:
    """The files of a repository that are fetched.

    Attributes:
        read: the file, or the folder ("" for the repository itself), that the reader opens.
        weights: names of the weights' files.
        besides: names of configuration files and of the card.
    """

    read: str
    weights: tuple[str, ...]
    besides: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return (*self.weights, *self.besides)


def is_hub_address(source: object) -> bool:
    """Return whether ``source`` is text that begins with hf://."""
    return isinstance(source, str) and source.startswith(SCHEME)


def intended_address(source: str | os.PathLike[str]) -> str | None:
    """Return the address hf://... that was probably meant, or None.

    >>> intended_address("hf:/owner/name")
    'hf://owner/name'

    Args:
        source: the page of a repository, or an address with a slip in its beginning.
    """
    text = os.fspath(source)
    if found := _NEARLY.fullmatch(text):
        meant = SCHEME + found[1]
    elif found := _PAGE.fullmatch(text):
        revision = f"@{found[2]}" if found[2] and found[2] != "main" else ""
        meant = SCHEME + found[1] + revision + (found[3] or "").rstrip("/")
    else:
        return None
    try:
        return str(parse_hub_address(meant))
    except CheckpointError:
        return None


def parse_hub_address(text: str) -> HubAddress:
    """Parse hf://owner/name[@revision][/file].

    A slash in a revision is written %2F, but for the hub's own refs/pr/1.

    Raises:
        CheckpointError: not of this form.
    """
    parts = text.removeprefix(SCHEME).split("/", 1)
    if len(parts) < 2 or not parts[0] or not text.startswith(SCHEME):
        raise CheckpointError(f"{text}: no owner and name: {_FORM}")
    owner, rest = parts
    if "@" in rest.split("/", 1)[0]:
        name, rest = rest.split("@", 1)
        if found := _REFERENCE.match(rest):
            revision, file = found[1], rest[found.end() :]
        else:
            revision, _, file = rest.partition("/")
            revision = unquote(revision)
        if _COMMIT.fullmatch(revision):
            revision = revision.lower()
        if not revision:
            raise CheckpointError(f"{text}: nothing after the @: {_FORM}")
    else:
        (name, _, file), revision = rest.partition("/"), None
    repository = f"{owner}/{name}"
    if not _REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository:
        raise CheckpointError(f"{text}: {repository!r} is no owner/name of the hub: {_FORM}")
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise CheckpointError(f"{text}: {revision!r} is no branch, tag or commit: {_FORM}")
    if any(part in ("", ".", "..") or "\\" in part for part in file.split("/")) and file:
        raise CheckpointError(f"{text}: {file!r} is no name of a file: {_FORM}")
    return HubAddress(repository, revision, file or None)


def choose_files(listed: Collection[str], address: HubAddress) -> ChosenFiles:
    """Choose the files to fetch: configuration, safetensors before .bin or .pth, and the card.

    Args:
        listed: names of all files of the repository.
        address: the address; its file limits the choice.

    Raises:
        CheckpointError: no such file, no weights, or several that could be meant.
    """
    card = (CARD,) if CARD in listed else ()
    folder = ""
    if address.file is not None:
        if address.file in listed:
            if PurePosixPath(address.file).suffix in _NO_WEIGHTS:
                candidates = _named(sorted(n for n in listed if n.endswith(_ENDINGS)))
                raise CheckpointError(
                    f"{address}: no file of weights{candidates}: name one, or the repository"
                )
            return ChosenFiles(address.file, (address.file,), card)
        folder = address.file.rstrip("/") + "/"
        if not any(name.startswith(folder) for name in listed):
            candidates = _named(sorted(n for n in listed if n.endswith(_ENDINGS)))
            raise CheckpointError(
                f"{address}: no such file in the repository{candidates}: correct its name"
            )
    inside = {
        name.removeprefix(folder): name
        for name in listed
        if name.startswith(folder) and "/" not in name.removeprefix(folder)
    }
    beside = tuple(inside[name] for name in _CONFIGURATION if name in inside)
    for name in (*(_ADAPTER if "adapter_config.json" in inside else ()), *_WHOLE):
        weights = _with_shards(name, inside)
        if weights:
            return ChosenFiles(
                folder.rstrip("/"), tuple(inside[w] for w in weights), (*beside, *card)
            )
    return _single(inside, address, card)


def _with_shards(name: str, inside: Collection[str]) -> tuple[str, ...]:
    """Return ``name``, or its index and the shards beside it, or nothing."""
    if name in inside:
        return (name,)
    index = f"{name}.index.json"
    if index not in inside:
        return ()
    stem, ending = name.rsplit(".", 1)
    shard = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{ending}")
    return (index, *sorted(n for n in inside if shard.fullmatch(n)))


def _single(inside: dict[str, str], address: HubAddress, card: tuple[str, ...]) -> ChosenFiles:
    """Choose the only file of weights, by ending: a repository that is no Hugging Face folder."""
    found = [n for n in inside if n.endswith(_ENDINGS) and n not in _CONFIGURATION]
    tensors = [n for n in found if n.endswith(".safetensors")]
    candidates = sorted(tensors or found)
    if len(candidates) == 1:
        name = inside[candidates[0]]
        return ChosenFiles(name, (name,), card)
    if not candidates:
        others = [n for n in sorted(inside) if n.endswith((".h5", ".msgpack", ".onnx"))]
        raise CheckpointError(
            f"{address}: no PyTorch or safetensors weights in the repository{_named(others)}: "
            "name one that has some"
        )
    first = HubAddress(address.repository, address.revision, inside[candidates[0]])
    raise CheckpointError(
        f"{address}: several files could be meant{_named(candidates)}: name one, such as {first}"
    )


def _named(names: list[str]) -> str:
    if not names:
        return ""
    return f" ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"


def _quoted(revision: str) -> str:
    return revision if _REFERENCE.fullmatch(revision) else revision.replace("/", "%2F")
