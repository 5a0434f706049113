"""No file names an address that is neither the project's own nor one of a short list."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from docs.publish import repository

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"https?://[^\s\"'`<>)\]}\\]+")
KNOWN = (
    # Official models, and the format of a pointer to one
    "https://dl.fbaipublicfiles.com/segment_anything/",
    "https://git-lfs",
    # Published models, and the pages of their projects: samjax/checkpoint/models.py
    "https://github.com/facebookresearch/segment-anything",
    "https://github.com/ChaoningZhang/MobileSAM",
    "https://github.com/computational-cell-analytics/micro-sam",
    "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/",
    "https://owncloud.gwdg.de/index.php/s/",
    "https://zenodo.org/records/",
    "https://huggingface.co",
    # What the pages and sources explain
    "https://anywidget.dev",
    "https://pypi.org/project/jaxtyping/",
    "http://www.apache.org/licenses/",
    "http://www.w3.org/",
    "https://biomejs.dev/schemas/",
    # The runtime of the annotator's page, pinned, with its hashes
    "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/",
    # Colab opens what docs.publish has published
    "https://colab.research.google.com",
)
RESERVED = re.compile(  # never anybody's: RFC 2606, loopback, placeholders of the text
    r"https?://([\w.-]+\.)?(example(\.(org|com|net))?|invalid|localhost|127\.0\.0\.1|\{|\[)"
    r"|https?://(weights\.invalid|mirror\.example|images\.example\.org)"
)
# The table of published models, with the addresses of those who publish them
MODELS = "samjax/checkpoint/models.py"
# Where docs.publish explains itself and is tested; and what npm writes
PLACEHOLDERS = {
    "docs/publish.py",
    "tests/docs/test_publish.py",
    "tests/docs/test_addresses.py",
    "samjax/widget/src/package-lock.json",
    MODELS,
}


def texts() -> dict[str, str]:
    """The text files that are committed, or will be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() or [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()
    ]
    found = {}
    for name in names:
        try:
            found[name] = (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a picture, weights, or a file that is deleted and not yet committed
    return found


def test_no_address_but_ours() -> None:
    ours = repository()
    strange = []
    for name, text in texts().items():
        if name in PLACEHOLDERS:
            continue
        for found in ADDRESS.findall(text):
            own = ours is not None and found.startswith((ours, f"https://{ours}"))
            if not own and not found.startswith(KNOWN) and not RESERVED.match(found):
                strange.append(f"{name}: {found}")
    assert not strange


def test_nothing_is_installed_from_elsewhere() -> None:
    ours = repository()
    for name, text in texts().items():
        if name in PLACEHOLDERS:
            continue
        for line in text.splitlines():
            if "pip install" in line and "git+" in line:
                assert ours is not None, f"{name}: {line}"
                assert f"git+{ours}" in line, f"{name}: {line}"


def test_there_is_something_to_look_through() -> None:
    names = texts()
    assert {"README.md", "pyproject.toml", "docs/conf.py"} <= set(names)
    assert ADDRESS.search("see https://elsewhere.net/x") is not None
