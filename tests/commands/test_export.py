"""``samjax export`` writes all or nothing, and refuses in one line."""

from __future__ import annotations

import builtins

import pytest

import samjax
from samjax.cli import main
from samjax.errors import ExportError
from samjax.export.write import export_model


@pytest.fixture
def quick(monkeypatch, small):
    """The command line with a tiny model."""
    from samjax.engine import spec

    monkeypatch.setattr(spec, "load", lambda *_, **__: small)


@pytest.mark.usefixtures("quick")
def test_files_and_lines(tmp_path, capsys):
    out = tmp_path / "new" / "sam.onnx"
    assert main(["export", "embedded", str(out), "--part", "both", "--weights", "float16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"{tmp_path}/new/sam.encoder.onnx: encoder",
        f"{tmp_path}/new/sam.decoder.onnx: decoder",
    ]
    assert sorted(p.name for p in out.parent.iterdir()) == ["sam.decoder.onnx", "sam.encoder.onnx"]
    assert main(["export", "embedded", str(tmp_path / "a.jaxexport"), "--points", "4"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/a.jaxexport: decoder, ")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sam.pt"], "unknown ending '.pt': use .onnx or .jaxexport"),
        (["sam"], "unknown ending ''"),
        (["sam.onnx", "--part", "neck"], "part is 'neck': use decoder, encoder or both"),
        (["sam.onnx", "--points", "0"], "points is 0: give 1 to 4096, or None (--points any)"),
        (["sam.onnx", "--batch", "many"], "--batch 'many': give a number, or any"),
        (["sam.onnx", "--masks", "three"], "masks is 'three': use all or best"),
        (["sam.onnx", "--weights", "int4"], "weights is 'int4': use float32 or float16 or uint8"),
        (["sam.onnx", "--dtype", "bfloat16"], "--weights chooses how weights are stored"),
        (["sam.jaxexport", "--weights", "uint8"], "a .jaxexport has the model's dtype"),
        (["sam.jaxexport", "--dtype", "int8"], "dtype 'int8' is not supported"),
        (["there.onnx"], "there.onnx exists: choose another name, or pass --overwrite"),
        (["folder.onnx", "--overwrite"], "folder.onnx is a folder"),
        (["https://models.example.org/x.onnx"], "an address, and files are read here"),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "folder.onnx").mkdir()
    assert main(["export", "embedded", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.onnx", "there.onnx"]
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_an_unknown_model(tmp_path, capsys):
    assert main(["export", "vit_x", str(tmp_path / "a.onnx")]) == 2
    assert "vit_x" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_the_model_itself_is_never_replaced(tmp_path, capsys):
    model = tmp_path / "model.onnx"  # what a file is called says little
    model.write_text("weights")
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    for name in (model, link):
        assert main(["export", str(model), str(name), "--overwrite"]) == 2
        assert "is an input and would be replaced" in capsys.readouterr().err
    assert model.read_text() == "weights"


@pytest.mark.parametrize(("package", "ending"), [("onnx", "onnx"), ("flatbuffers", "jaxexport")])
def test_a_missing_package_is_named_before_work(monkeypatch, tmp_path, package, ending, small):
    actual = builtins.__import__

    def missing(name, *rest, **more):
        if name == package:
            raise ImportError(name)
        return actual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ExportError, match=r"pip install 'samjax\[export\]'"):
        export_model(small, tmp_path / f"a.{ending}")


def test_nothing_is_left_when_the_second_part_fails(monkeypatch, tmp_path, small):
    from samjax.export import write

    for part in ("encoder", "decoder"):
        (tmp_path / f"a.{part}.onnx").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.Path, "write_bytes", full)
    with pytest.raises(ExportError, match=r"a\.onnx: cannot be written \(No space left"):
        export_model(small, tmp_path / "a.onnx", part="both", overwrite=True)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "a.encoder.onnx": "old",
        "a.decoder.onnx": "old",
    }


def test_the_public_name(small, tmp_path):
    (written,) = samjax.export_model(small, tmp_path / "a.onnx", weights="uint8")
    assert written.path.stat().st_size == written.size
    assert written.part == "decoder"
