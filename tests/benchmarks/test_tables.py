"""Test the tables in README and numbers page from saved results; notebooks may have them, too."""

from __future__ import annotations

import json

import pytest

from benchmarks import tables
from samjax.errors import SamjaxError


def entry(label, state="measured", reason="", **seconds):
    starts = [
        {"cache": "empty", "first": {"encoder": 2.0, "click": 1.0}, "peak_mb": 500.0},
        {"cache": "filled", "first": {"encoder": 0.5, "click": 0.2}, "peak_mb": 400.0},
    ]
    for start in starts:
        start["device_peak_mb"] = None
    return {
        "label": label,
        "dtype": "float32",
        "precision": "highest",
        "state": state,
        "reason": reason,
        "check": {},
        "starts": starts,
        "seconds": seconds,
    }


@pytest.fixture
def speed():
    return {
        "date": "2026-01-01",
        "commit": "abc",
        "machine": {
            "cpu": "a processor",
            "cores used": 2,
            "device": "cpu",
            "load average before": [0.1, 0.1, 0.1],
        },
        "versions": {"jax": "1", "numpy": "2"},
        "image": "a.jpg, 4 x 3",
        "models": {
            "embedded": {
                "jobs": ["encoder", "click"],
                "rounds": 3,
                "encoder flops": {"with attention": 2 * 2.0 * 4096 * 768 * 3072},
                "competitors": {
                    "samjax-float32": entry("samjax", encoder=[0.1, 0.2, 0.4], click=[0.01] * 3),
                    "official-float32": entry(
                        "official", encoder=[0.5, 0.6, 0.8], click=[None] * 3
                    ),
                    "gone-float32": entry("gone", "missing", "not installed"),
                    "product-float32": entry("product", product=[0.05, 0.05, 0.1]),
                },
            }
        },
    }


@pytest.fixture
def miou():
    mean = {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    asked = {"protocol": "sam-point", "data": "bsds/val", "model": "embedded", "dtype": "float32"}
    scores = {"AP": 0.25, "AP small": None}  # no small objects
    return {"asked": asked, "images": 7, "masks": 9, "means": {"clicks_1": mean}, "scores": scores}


@pytest.fixture
def pages(tmp_path):
    readme, notebook = tmp_path / "README.md", tmp_path / "n.ipynb"
    readme.write_text(
        "above\n<!-- speed -->\nold\n<!-- /speed -->\nbelow <!-- miou --><!-- /miou -->"
    )
    cells = [
        {"cell_type": "markdown", "source": ["a\n", "<!-- speed -->\n", "<!-- /speed -->"]},
        {"cell_type": "code", "source": ["'<!-- speed --> <!-- /speed -->'"]},
    ]
    notebook.write_text(json.dumps({"cells": cells}))
    return readme, notebook


def remake(pages, tmp_path, *out):
    arguments = [*map(str, out), "--results", str(tmp_path / "results"), "--pages"]
    tables.main([*arguments, *map(str, pages)])


def test_pages_are_filled_between_their_markers(speed, pages, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps(speed))
    remake(pages, tmp_path, tmp_path / "run")
    text = pages[0].read_text()
    assert text.startswith("above\n<!-- speed -->\n|")
    assert text.endswith("<!-- /speed -->\nbelow <!-- miou -->\n<!-- /miou -->")
    assert "old" not in text
    rows = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x.startswith("|")]
    assert rows[0][:4] == ["embedded: encoder 38.65 GFLOP", "dtype", "encoder, ms", "click, ms"]
    ours, theirs, gone = rows[2:]
    # 5, 3 and 2 times as long; two products' work in 0.1, 0.2, 0.4 s, one in 0.05, 0.05, 0.1
    assert ours[2:] == ["200 (1.00x (1.00, 1.00))", "10 (1.00x (1.00, 1.00))", "0.50",
                        "3.0 / 0.7", "500"]  # fmt: skip
    assert theirs[2:5] == ["600 (3.00x (2.00, 5.00))", "", "0.20"]
    assert gone[2] == "missing: not installed"
    cells = json.loads(pages[1].read_text())["cells"]
    assert "".join(cells[0]["source"]).count("official") == 1
    assert cells[1]["source"] == ["'<!-- speed --> <!-- /speed -->'"]
    assert "busy" not in text
    before = [page.read_bytes() for page in pages]
    remake(pages, tmp_path)
    assert [page.read_bytes() for page in pages] == before


def test_a_busy_machine_is_told(speed, pages, tmp_path):
    speed["machine"]["load average before"] = [1.5, 0.1, 0.1]
    (tmp_path / "results.json").write_text(json.dumps(speed))
    remake(pages, tmp_path, tmp_path)
    assert "The machine was busy (load 1.5)" in pages[0].read_text()


def test_masks_beside_speed(speed, miou, pages, tmp_path):
    for name, content in (("results.json", speed), ("summary.json", miou)):
        (tmp_path / name).write_text(json.dumps(content))
    large = {"asked": miou["asked"] | {"dtype": "bfloat16", "least area, px": 400.0}}
    several = {"x": miou | {"images": 8}, "y": miou | large}
    (tmp_path / "table.json").write_text(json.dumps(several))
    remake(pages, tmp_path, tmp_path)
    names = sorted(p.name for p in (tmp_path / "results").iterdir())
    first = "miou-sam_point-val-embedded"
    assert names == [
        f"{first}-bfloat16-of_at_least_400_px.json",
        f"{first}-float32.json",
        "speed-embedded.json",
    ]
    lines = pages[0].read_text().splitlines()
    restricted, row = (x for x in lines if x.startswith("| sam-point"))
    assert "| 7 images, 9 masks, of at least 400 px | embedded | bfloat16 |" in restricted
    assert "| bsds/val | 8 images, 9 masks | embedded | float32 |" in row
    assert row.endswith("| 1 click .500 [.400, .600]; AP .250 |")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds none of results.json"),
        ("{", "cannot be read"),
        ("[]", "not a result of a suite"),
        ("{}", "not a result of a suite"),
        ('{"a": 1}', "not a result of a suite"),
    ],
)
def test_what_is_no_result_is_refused(content, message, pages, tmp_path):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    before = [page.read_bytes() for page in pages]
    with pytest.raises(SamjaxError, match=message):
        remake(pages, tmp_path, tmp_path)
    assert [page.read_bytes() for page in pages] == before


def test_a_longer_run_is_not_replaced_by_a_shorter(miou, pages, tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(miou | {"images": 8}))
    remake(pages, tmp_path, tmp_path)
    before = [page.read_bytes() for page in pages]
    (tmp_path / "summary.json").write_text(json.dumps(miou))
    with pytest.raises(SamjaxError, match="measured on 8 images, the new result on 7"):
        remake(pages, tmp_path, tmp_path)
    assert [page.read_bytes() for page in pages] == before


def test_other_devices_and_quick_runs_have_files_and_words_of_their_own(speed, pages, tmp_path):
    machine = speed["machine"] | {"device": "NVIDIA H100"}
    for content in (speed, speed | {"machine": machine}, speed | {"note": "Quick run."}):
        (tmp_path / "results.json").write_text(json.dumps(content))
        remake(pages, tmp_path, tmp_path)
    names = sorted(p.name for p in (tmp_path / "results").iterdir())
    assert names == ["speed-embedded-NVIDIA_H100.json", "speed-embedded-quick.json",
                     "speed-embedded.json"]  # fmt: skip
    assert pages[0].read_text().count("Quick run.") == 1


def test_a_page_that_is_not_there(pages, tmp_path):
    pages[0].unlink()
    with pytest.raises(SamjaxError, match="no such file"):
        remake(pages, tmp_path, tmp_path)


def test_nothing_saved_yet(pages, tmp_path):
    with pytest.raises(SamjaxError, match="no results yet"):
        remake(pages, tmp_path)


def test_the_project_s_pages_hold_the_saved_results(tmp_path):
    """The pages are what ``python -m benchmarks.tables`` makes of the results."""
    made = tables.blocks([tables.read(file) for file in sorted(tables.RESULTS.glob("*.json"))])
    readme = tables.PAGES[0]
    for page in tables.PAGES:
        copy = tmp_path / page.name
        copy.write_bytes(page.read_bytes())
        tables.fill_page(copy, made)
        assert copy.read_text("utf-8") == page.read_text("utf-8"), "run python -m benchmarks.tables"
        names = ("summary",) if page == readme else ("speed", "miou")
        assert all(f"<!-- {name} -->" in copy.read_text("utf-8") for name in names)


def test_a_few_rows_put_samjax_beside_pytorch(speed):
    model = speed["models"].pop("embedded")
    model["competitors"]["official-float32"] = entry("official", click=[0.02, 0.03, 0.05])
    model["competitors"]["samjax-float32"] = entry("samjax", click=[0.01, 0.01, 0.01])
    speed["models"]["vit_b-random"] = model
    gpu = {**speed, "machine": speed["machine"] | {"device": "NVIDIA H100"}}
    rows = tables.blocks([speed, gpu])["summary"].splitlines()
    assert rows[2:] == [
        "| a click after that, ViT-B | 10 ms | 30 ms | 3.00x (2.00, 5.00) |",
        "| first image and click of a process, ViT-B | 3.0 / 0.7 s | 3.0 / 0.7 s |  |",
    ]
    assert tables.blocks([gpu])["summary"] == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0093, "9.3 ms"), (0.0347, "35 ms"), (0.99, "990 ms"), (18.3, "18 s")]
)
def test_times_have_two_digits(seconds, text):
    assert tables.duration(seconds) == text
