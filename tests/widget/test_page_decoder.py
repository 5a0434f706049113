"""What the page decodes with: the decoder of clicks, embeddings, the runtime, and refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import samjax
from samjax.errors import ExportError, PromptError
from samjax.export.onnx_clicks import click_graph
from samjax.masks.upscale import upscale
from samjax.widget.page_decoder import ADDRESS, VERSION, WASM, WEBGPU
from samjax.widget.row_runs import row_runs
from tests.support.exported import (
    VIT_B_DECODER,
    as_input,
    deviation,
    load_seeded,
    make_prompt,
    session,
)
from tests.support.models import PLAIN, drawn_image
from tests.widget.test_annotator import Wire

# What the tests of the page's JavaScript compare with
KERNEL = Path(samjax.__file__).parent / "widget/src/tests/kernel.json"


@pytest.fixture
def runtime(tmp_path) -> Path:
    """A folder with files of the runtime's names."""
    for files in (WASM, WEBGPU):
        for name in (files.module, files.wasm):
            (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def decode(sam, path: Path, features: jax.Array, prompt) -> tuple[np.ndarray, np.ndarray]:
    """Return low-res masks and scores of a written decoder of clicks."""
    names = ("point_coords", "point_labels")
    arrays = {k: v for k, v in prompt.arrays(sam).items() if k in names}
    quality, low = session(path).run(None, {"image_embeddings": as_input(features), **arrays})
    return low, quality


@pytest.mark.parametrize("network", ["embedded", "ViT-B"])
def test_the_decoder_of_clicks_is_the_models(network, embedded, tmp_path):
    sam = embedded if network == "embedded" else load_seeded(VIT_B_DECODER, tmp_path)
    grid, path = sam.config.grid, tmp_path / "clicks.onnx"
    graph = click_graph(sam.model.decoder, sam.config, "float32")
    path.write_bytes(graph.model("clicks", {}).SerializeToString())
    values = np.random.default_rng(0).normal(0, 0.4, (grid, grid, 256))
    features = jnp.asarray(values, jnp.float32)
    for points, box in ((1, False), (2, True), (5, False), (16, True)):
        prompt = make_prompt(sam.config.image_size, points, box=box)
        low, scores = prompt.decode(sam, features)
        found, quality = decode(sam, path, features, prompt)
        assert deviation(found, low) < 1e-4
        np.testing.assert_allclose(quality, scores, atol=1e-4 * np.abs(scores).max())


def test_the_pages_tests_compare_with_what_samjax_gives():
    kernel = json.loads(KERNEL.read_text())
    for case in kernel["upscaled"]:
        logits = np.float32(case["logits"]).reshape(case["low"], case["low"])
        sizes = case["side"], tuple(case["input"]), tuple(case["size"])
        mask = upscale(logits, *sizes, case["threshold"])
        assert row_runs(mask).tolist() == case["runs"]
    words = np.uint16(kernel["halves"]["words"])
    assert words.view(np.float16).tolist() == kernel["halves"]["values"]


@pytest.mark.parametrize("gpu", [False, True])
def test_the_page_gets_decoder_runtime_and_embedding(small, runtime, gpu):
    wire = Wire(samjax.Annotator(small, drawn_image(48, 70), decode_in_page=runtime))
    wire.annotator.wait()
    assert wire.annotator.decode_in_page is True
    wire.annotator._on_message(wire.annotator, {"kind": "page_decoder", "gpu": gpu}, [])
    told = wire.wait_for(lambda c: c["kind"] == "page_decoder")
    files = WEBGPU if gpu else WASM
    (buffers,) = [b for c, b in wire.got if c is told]
    assert told["provider"] == files.provider
    assert [bytes(b) for b in buffers[1:]] == [files.module.encode(), files.wasm.encode()]
    wire.annotator._on_message(wire.annotator, {"kind": "embedding", "index": 0}, [])
    told = wire.wait_for(lambda c: c["kind"] == "embedding")
    ((values,),) = [b for c, b in wire.got if c is told]
    image = wire.annotator._controller.loader.embedding(0)
    assert (told["original"], told["input"]) == ([48, 70], list(image.input_size))
    sent = np.frombuffer(values, np.float16).reshape(told["shape"])
    expected = np.asarray(image.features).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(sent.astype(np.float32), expected, rtol=1e-3, atol=1e-6)


def test_without_a_folder_the_files_have_a_pinned_address_and_hashes(small):
    wire = Wire(samjax.Annotator(small, drawn_image(48, 70), decode_in_page=True))
    wire.annotator._on_message(wire.annotator, {"kind": "page_decoder", "gpu": False}, [])
    told = wire.wait_for(lambda c: c["kind"] == "page_decoder")
    assert told["module"] == [ADDRESS + WASM.module, WASM.module_integrity]
    assert told["wasm"] == [ADDRESS + WASM.wasm, WASM.wasm_integrity]
    assert f"@{VERSION}/" in ADDRESS


def test_an_annotator_without_it_sends_nothing_of_it(small):
    wire = Wire(samjax.Annotator(small, drawn_image(48, 70)))
    wire.annotator.wait()
    for message in ({"kind": "page_decoder", "gpu": False}, {"kind": "embedding", "index": 0}):
        wire.annotator._on_message(wire.annotator, message, [])
    wire.send("hello")
    assert {c["kind"] for c, _ in wire.got} <= {"image", "update"}
    assert wire.annotator.decode_in_page is False


def test_a_decoder_that_cannot_be_made_is_told(small, runtime, monkeypatch, caplog):
    def refused(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("samjax.export.onnx_clicks.click_graph", refused)
    wire = Wire(samjax.Annotator(small, drawn_image(48, 70), decode_in_page=runtime))
    wire.annotator._on_message(wire.annotator, {"kind": "page_decoder", "gpu": False}, [])
    told = wire.wait_for(lambda c: c["kind"] == "page_decoder")
    assert told["error"] == "RuntimeError: no memory"
    assert "no memory" in caplog.text


def test_what_cannot_work_is_refused(small, tmp_path, monkeypatch):
    image = drawn_image(48, 70)
    with pytest.raises(PromptError, match=f"has no {WASM.module}.*npm pack"):
        samjax.Annotator(small, image, decode_in_page=tmp_path)
    (tmp_path / "file.wasm").write_bytes(b"")
    with pytest.raises(PromptError, match="is a file: name the folder"):
        samjax.Annotator(small, image, decode_in_page=tmp_path / "file.wasm")
    with pytest.raises(PromptError, match="an address: pass True"):
        samjax.Annotator(small, image, decode_in_page="https://cdn.example/x")
    medsam = samjax.load(PLAIN, preprocess="medsam", dtype="float32", device="cpu")
    with pytest.raises(PromptError, match="made in the kernel alone"):
        samjax.Annotator(medsam, image, decode_in_page=True)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"pip install 'samjax\[export\]'"):
        samjax.Annotator(small, image, decode_in_page=True)
