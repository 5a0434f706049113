"""Exported ONNX files, in onnxruntime, compute what samjax computes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import samjax
from samjax.errors import ExportError
from samjax.export.graph import quantise
from samjax.export.layout import ExportOptions
from samjax.export.write import export_model
from samjax.image.longest_side import resize_longest_side
from samjax.image.preset import PRESETS, prepare, read_for
from samjax.masks.upscale import upscale
from tests.support.exported import (
    VIT_B_DECODER,
    as_input,
    deviation,
    load_seeded,
    make_prompt,
    session,
)
from tests.support.models import PLAIN, TINY_MOBILE, drawn_image

TOLERANCE = 1e-4  # of the logits' standard deviation
# At full size of random networks, whose logits change from pixel to pixel: both interpolate between
# float32 coordinates, which differ in the last bit
FULL_SIZE_TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def prepared(photo, embedded):
    return prepare(photo, embedded.config.image_size, embedded.preset)


@pytest.fixture(scope="module")
def features(prepared, embedded):
    return embedded.encode(prepared).features


@pytest.fixture(scope="module")
def decoder(embedded, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "decoder.onnx"
    export_model(embedded, path)
    return session(path)


def run(decoder, features, arrays, size=(7, 9)):
    inputs = {"image_embeddings": as_input(features), "orig_im_size": np.array(size, np.float32)}
    return decoder.run(None, inputs | arrays)


@pytest.mark.parametrize("box", [False, True])
def test_decoder_of_the_embedded_checkpoint(embedded, decoder, features, prepared, photo, box):
    mask = None
    for points in range(1, 17):
        for with_mask in (False, points > 1):
            prompt = make_prompt(
                embedded.config.image_size, points, box=box, mask=mask if with_mask else None
            )
            low, iou = prompt.decode(embedded, features)
            found = run(decoder, features, prompt.arrays(embedded), photo.shape[:2])
            assert [x.shape[1] for x in found] == [4, 4, 4]
            # One mask and three are parts of the four
            for part in (slice(0, 1), slice(1, None)):
                assert deviation(found[2][:, part], low[:, part]) < TOLERANCE
            np.testing.assert_allclose(found[1], iou, atol=1e-5)
            size = embedded.config.image_size, prepared.input_size, prepared.original_size
            if points % 8 == 0:
                assert deviation(found[0], upscale(low, *size, None)) < TOLERANCE
            mask = low[0, 2]
    low, _ = prompt.decode(embedded, features)  # neither empty nor full
    assert 0.01 < (low > 0).mean() < 0.99


def test_encoder_of_the_embedded_checkpoint(embedded, features, prepared, tmp_path, capfd):
    export_model(embedded, tmp_path / "encoder.onnx", part="encoder")
    encoder = session(tmp_path / "encoder.onnx")
    h, w = prepared.input_size
    (found,) = encoder.run(None, {"image": prepared.pixels[None, :h, :w]})
    assert found.shape == (1, 256, 28, 28)
    assert deviation(found, as_input(features)) < TOLERANCE
    assert capfd.readouterr().err == ""  # the runtime has nothing to warn of


def test_decoder_of_vit_b_sizes(tmp_path):
    sam = load_seeded(VIT_B_DECODER, tmp_path)
    export_model(sam, tmp_path / "decoder.onnx")
    decoder = session(tmp_path / "decoder.onnx")
    assert [i.name for i in decoder.get_inputs()] == [
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
        "orig_im_size",
    ]
    assert decoder.get_inputs()[0].shape == [1, 256, 64, 64]
    assert decoder.get_inputs()[1].shape == [1, "num_points", 2]
    assert decoder.get_inputs()[3].shape == [1, 1, 256, 256]
    assert [o.name for o in decoder.get_outputs()] == ["masks", "iou_predictions", "low_res_masks"]
    features = jnp.asarray(np.random.default_rng(0).normal(0, 0.2, (64, 64, 256)), jnp.float32)
    mask = None
    for points, box in ((1, False), (2, True), (3, False), (16, True)):
        prompt = make_prompt(1024, points, box=box, mask=mask)
        low, iou = prompt.decode(sam, features)
        full, quality, found = run(decoder, features, prompt.arrays(sam), (150, 200))
        assert deviation(found, low) < TOLERANCE
        np.testing.assert_allclose(quality, iou, atol=1e-4 * np.abs(iou).max())
        assert (
            deviation(full, upscale(low, 1024, (768, 1024), (150, 200), None)) < FULL_SIZE_TOLERANCE
        )
        mask = low[0, 1] if mask is None else None


@pytest.mark.parametrize("preset", ["sam", "medsam", "microsam", "samed", "sammed2d"])
def test_encoder_of_each_preset(tmp_path, preset):
    sam = samjax.load(PLAIN, preprocess=preset, dtype="float32", device="cpu")
    export_model(sam, tmp_path / "encoder.onnx", part="encoder", batch=None)
    encoder = session(tmp_path / "encoder.onnx")
    for height, width in ((48, 70), (90, 61)):
        image = prepare(
            read_for(PRESETS[preset], drawn_image(height, width)), sam.config.image_size, sam.preset
        )
        h, w = image.input_size
        expected = np.asarray(sam.encode(image).features)
        pixels = np.stack([image.pixels[:h, :w]] * 2)
        (found,) = encoder.run(None, {"image": pixels})
        for each in found:
            assert deviation(each.transpose(1, 2, 0), expected) < TOLERANCE


NETWORKS = {
    "SAM-HQ": PLAIN.with_hq(),
    "Light HQ-SAM": TINY_MOBILE.with_hq(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_both_parts_of_each_kind_of_network(tmp_path, name):
    sam = load_seeded(NETWORKS[name], tmp_path)
    written = export_model(sam, tmp_path / "sam.onnx", part="both")
    assert [each.path.name for each in written] == ["sam.encoder.onnx", "sam.decoder.onnx"]
    image = prepare(drawn_image(48, 70), sam.config.image_size, sam.preset)
    h, w = image.input_size
    features = sam.encode(image).features
    (found,) = session(written[0].path).run(None, {"image": image.pixels[None, :h, :w]})
    assert deviation(found, as_input(features)) < TOLERANCE
    prompt = make_prompt(sam.config.image_size, 3, box=True)
    low, iou = prompt.decode(sam, features)
    full, quality, masks = run(
        session(written[1].path), features, prompt.arrays(sam), image.original_size
    )
    assert deviation(masks, low) < TOLERANCE
    np.testing.assert_allclose(quality, iou, atol=1e-4 * max(1, np.abs(iou).max()))
    size = sam.config.image_size, image.input_size, image.original_size
    assert deviation(full, upscale(low, *size, None)) < FULL_SIZE_TOLERANCE


def test_a_fixed_number_of_points_serves_fewer(embedded, decoder, features, tmp_path):
    export_model(embedded, tmp_path / "fixed.onnx", points=8, batch=None)
    fixed = session(tmp_path / "fixed.onnx")
    prompts = [make_prompt(embedded.config.image_size, n, box=n % 2 == 0) for n in (1, 2, 3, 6)]
    rows = [prompt.arrays(embedded, 8) for prompt in prompts]
    together = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    _, iou, low = run(fixed, features, together)
    for i, prompt in enumerate(prompts):
        _, expected_iou, expected = run(decoder, features, prompt.arrays(embedded))
        assert deviation(low[i : i + 1], expected) < TOLERANCE
        np.testing.assert_allclose(iou[i : i + 1], expected_iou, atol=1e-5)
    with pytest.raises(Exception, match="Expected: 8"):
        run(fixed, features, prompts[0].arrays(embedded))


def test_the_best_mask(embedded, decoder, features, tmp_path):
    export_model(embedded, tmp_path / "best.onnx", masks="best")
    best = session(tmp_path / "best.onnx")
    for points in (1, 2, 3):
        # The official select_masks counts padding points: two of them are still ambiguous
        arrays = make_prompt(embedded.config.image_size, points, box=False).arrays(embedded)
        full, iou, low = run(decoder, features, arrays)
        chosen = 0 if points + 1 > 2.5 else 1 + int(iou[0, 1:].argmax())
        found = run(best, features, arrays)
        for one, every in zip(found, (full, iou, low), strict=True):
            np.testing.assert_allclose(one, every[:, chosen : chosen + 1], atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "share", "overlap"), [("float16", 0.52, 0.995), ("uint8", 0.29, 0.96)]
)
def test_smaller_weights(embedded, decoder, features, tmp_path, weights, share, overlap):
    (written,) = export_model(embedded, tmp_path / "small.onnx", weights=weights)
    (whole,) = export_model(embedded, tmp_path / "whole.onnx")
    assert written.size < share * whole.size
    small = session(written.path)
    ious = []
    for points in range(1, 17):
        for box in (True, False):
            arrays = make_prompt(embedded.config.image_size, points, box=box).arrays(embedded)
            expected, found = (run(d, features, arrays)[2][0, 1:] > 0 for d in (decoder, small))
            ious.append((expected & found).sum() / (expected | found).sum())
    assert np.mean(ious) > overlap
    assert min(ious) > 1 - 2 * (1 - overlap)


def test_quantised_weights_are_close():
    array = np.random.default_rng(0).normal(0, 1, (40, 30)).astype(np.float32)
    array[:, 3] = 0
    array[:, 4] = np.abs(array[:, 4]) + 5
    values, scale, zero = quantise(array, -1)
    assert values.dtype == zero.dtype == np.uint8
    again = (values.astype(np.float32) - zero) * scale
    assert (np.abs(again - array) <= 0.51 * scale).all()
    assert (again[:, 3] == 0).all()


def test_sizes_are_those_of_samjax(decoder, embedded, features):
    """The crop's rounding, over many aspects: the masks of an image are not shifted by a pixel."""
    arrays = make_prompt(embedded.config.image_size, 1, box=False).arrays(embedded)
    size = embedded.config.image_size
    for height, width in ((1, 40), (37, 40), (40, 3), (600, 7), (33, 512), (511, 512)):
        full, _, low = run(decoder, features, arrays, (height, width))
        inside = resize_longest_side((height, width), size)
        expected = upscale(low, size, inside, (height, width), None)
        assert deviation(full, expected) < TOLERANCE


def test_a_larger_image_is_refused_by_the_runtime(small, tmp_path):
    export_model(small, tmp_path / "encoder.onnx", part="encoder")
    encoder = session(tmp_path / "encoder.onnx")
    size = small.config.image_size
    encoder.run(None, {"image": np.zeros((1, size, size, 3), np.uint8)})
    with pytest.raises(Exception, match="ConstantOfShape"):
        encoder.run(None, {"image": np.zeros((1, size + 1, size, 3), np.uint8)})


def test_files_say_what_they_are(embedded, tmp_path):
    export_model(embedded, tmp_path / "sam.onnx", part="both")
    model = onnx.load(tmp_path / "sam.decoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    about = {p.key: p.value for p in model.metadata_props}
    assert about["part"] == "decoder"
    assert about["preset"] == "sam"
    assert about["image_size"] == "448"
    assert about["samjax"] == samjax.__version__
    assert str(tmp_path) not in str(about)
    assert model.opset_import[0].version == 17


def test_options_that_mean_nothing():
    for options in (
        ExportOptions(batch=0),
        ExportOptions(points=-1),
        ExportOptions(masks="three"),
        ExportOptions(weights="int4"),
    ):
        with pytest.raises(samjax.SamjaxError, match=r"is .*: (give|use)"):
            options.check()


@pytest.mark.parametrize(
    "options", [{"points": 10**23}, {"batch": 5000}, {"points": 0}, {"points": 10**5000}]
)
def test_numbers_that_nobody_can_use_are_refused_at_once(embedded, tmp_path, options):
    for name in ("x.onnx", "x.jaxexport"):
        with pytest.raises(ExportError, match=r"give 1 to 4096, or None \(--\w+ any\)"):
            export_model(embedded, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_link_that_leads_nowhere_is_not_replaced(embedded, tmp_path):
    (tmp_path / "x.onnx").symlink_to(tmp_path / "nowhere.onnx")
    with pytest.raises(ExportError, match="exists"):
        export_model(embedded, tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").is_symlink()
