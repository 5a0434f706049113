"""Run the commands for models by name: ``samjax models``, ``samjax lock``, ``samjax download``."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

_NAMES = (
    "vit_b, vit_l, vit_h or another name of samjax models; or hf://owner/name[@revision][/file]."
)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the public models that load by name.

    For each: size, preset, licence, what fixes its content, whether it is in the cache, and what
    it is for. "sha256" and "commit" are stated by the publisher. "quoted" ones are not, but others
    who use the same file state them (who: --json). "first download" means that nobody does: the
    sha256 of your first download counts from then on.
    """
    import json

    found = model_records()
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in model_lines(found, shutil.get_terminal_size().columns):
        print(line)


def lock(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help=f"{_NAMES} Or a file, a folder, or embedded.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Lock file to write or add to.")
    ] = Path("models.lock.json"),
    update: Annotated[
        bool, typer.Option("--update", help="Replace entries of FILE whose content has changed.")
    ] = False,
) -> None:
    """Write down which models a project uses: address, commit and sha256 of every file.

    Downloads what is missing. samjax.load(..., lock="models.lock.json") then refuses anything
    else: what others need to reproduce a result.
    """
    for line in run_lock(sources, out, update=update):
        print(line)


def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_NAMES)],
) -> None:
    """Fetch a model by name or address, check its hash, and print the path."""
    print(run_download(model))


def run_download(model: str) -> Path:
    """Fetch a model by name or address and return its path.

    Raises:
        SamjaxError: no such name, what cannot be fetched, or a repository or file on the hub that
            holds no weights of a SAM.
    """
    from samjax.checkpoint.hub_address import intended_address
    from samjax.checkpoint.models import MODELS
    from samjax.checkpoint.read import refuse_other_files
    from samjax.checkpoint.sources import check_address, fetch_source, intended_name
    from samjax.errors import CheckpointError
    from samjax.migration import intended_model

    if not check_address(model):
        meant = intended_address(model) or intended_name(model) or intended_model(model)
        raise CheckpointError(
            f"no official weights called {model!r}, and no other model: see samjax models for the "
            "names, or give hf://owner/name" + (f'; did you mean "{meant}"?' if meant else "")
        )
    located = fetch_source(model)
    if located.origin is not None and model not in MODELS:
        try:
            refuse_other_files(located.path)
        except CheckpointError as error:
            names = ", ".join(list(located.origin.entry.files)[:8])
            raise CheckpointError(
                f"{model}: fetched {names}, but no weights of a SAM are among them: {error}"
            ) from error
    return located.path


def model_records() -> list[dict[str, Any]]:
    """Return the public models as plain JSON values, with what the cache knows of each."""
    from samjax.checkpoint.models import MODELS
    from samjax.checkpoint.models_lock import read_lock
    from samjax.checkpoint.sources import cached_source, lock_path

    known = read_lock(lock_path(), missing_ok=True)
    records = []
    for name, model in MODELS.items():
        entry = known.get(name)
        pinned = entry if model.pinned_by == "first download" else None
        records.append(
            {
                "name": name,
                "purpose": model.purpose,
                "address": model.address,
                "page": model.page,
                "licence": model.licence or None,
                "preset": model.preset,
                "bytes": model.size
                or (sum(f.size for f in entry.files.values()) if entry else None),
                "pinned_by": model.pinned_by,
                "sha256": model.sha256 or None,
                "xxh128": model.xxh128 or None,
                "quoted_from": model.quoted_from or None,
                "first_download": None
                if pinned is None
                else {"date": pinned.date, "commit": pinned.commit, "sha256": pinned.content},
                "cached": cached_source(name) is not None,
            }
        )
    return records


def model_lines(records: list[dict[str, Any]], width: int) -> list[str]:
    """Lay the models out as a table, purposes wrapped to ``width`` characters."""
    from samjax.checkpoint.describe import megabytes

    head = ("name", "size", "preset", "licence", "fixed by", "cached")
    rows = [head]
    for record in records:
        first = record["first_download"]
        fixed = record["pinned_by"] + (f" {first['date'][:10]}" if first else "")
        size = megabytes(record["bytes"]) if record["bytes"] else "?"
        licence = record["licence"] or "see page"
        cached = "yes" if record["cached"] else ""
        rows.append((record["name"], size, record["preset"], licence, fixed, cached))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    purposes = ["for", *(record["purpose"] for record in records)]
    lines = []
    for row, purpose in zip(rows, purposes, strict=True):
        cells = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)) + "  "
        room = width - len(cells)
        if room >= 30:
            wrapped = textwrap.wrap(purpose, room)
            lines += [cells + wrapped[0], *(" " * len(cells) + rest for rest in wrapped[1:])]
        else:
            lines += [cells.rstrip(), *textwrap.wrap(purpose, width - 4, initial_indent="    ")]
    return [line.rstrip() for line in lines]


def run_lock(sources: list[str], out: Path, *, update: bool) -> list[str]:
    """Add the models to a lock file and return a line for each.

    Raises:
        SamjaxError: a model that cannot be fetched, a file or folder without weights of a SAM,
            another content under a name that is in the file already, or a file that cannot be
            written.
    """
    from samjax.checkpoint.models import MODELS
    from samjax.checkpoint.models_lock import read_lock, write_entries
    from samjax.checkpoint.read import refuse_other_files
    from samjax.checkpoint.sources import describe_path
    from samjax.engine.load import find_source
    from samjax.errors import DownloadError
    from samjax.files import writing

    path = out.expanduser()
    known = read_lock(path, missing_ok=True)
    entries, lines = {}, []
    for source in sources:
        located = find_source(source)
        if source not in MODELS:
            refuse_other_files(located.path)
        found = describe_path(located.path) if located.origin is None else located.origin.entry
        earlier = known.get(source)
        if earlier and earlier.content == found.content:
            lines.append(f"{source}: unchanged since {earlier.day}")
            continue
        if earlier and not update:
            raise DownloadError(
                f"{out}: {source} is another content there, of {earlier.day}; pass --update to "
                "replace it"
            )
        entries[source] = found.without_machine()
        main = max(found.files.values(), key=lambda file: file.size)
        commit = f"commit {found.commit}, " if found.commit else ""
        lines.append(f"{source}: {commit}sha256 {main.sha256}")
    with writing(out, DownloadError):
        if entries or not path.exists():
            write_entries(path, entries)
    return [*lines, str(out)]
