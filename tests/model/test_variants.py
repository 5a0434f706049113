"""Test SAM-HQ and MobileSAM without torch: recorded results, families, files, clicks."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.checkpoint.convert import convert_checkpoint
from samjax.checkpoint.describe import describe, describe_rows, model_name
from samjax.checkpoint.formats.torch_writer import write_torch_file
from samjax.checkpoint.infer import infer_config
from samjax.checkpoint.parameters import fill_model, random_parameters, to_official
from samjax.cli import main
from samjax.errors import CheckpointError, PromptError
from samjax.image.preset import prepare
from samjax.model import tiny_vit
from samjax.model.attention import CPU_CHUNKS
from samjax.model.config import SamConfig
from tests.support.models import GOLDEN, MOBILE, PLAIN, TINY_MOBILE, drawn_image, seeded_tensors

HQ = PLAIN.with_hq()
CASES = {"sam-hq": (GOLDEN.with_hq(), 1, 1, 1), "light hq-sam": (MOBILE.with_hq(), 16, 4, 8)}


@pytest.fixture(scope="module")
def hq() -> samjax.SamPredictor:
    predictor = samjax.SamPredictor(samjax.load(HQ))
    predictor.set_image(drawn_image(48, 70))
    return predictor


def written(config: SamConfig, path: Path, **more: np.ndarray) -> Path:
    write_torch_file(path, to_official(random_parameters(config), config) | more)
    return path


@pytest.mark.parametrize("name", CASES)
def test_results_of_the_official_code(name: str, tmp_path):
    """See tests/golden/make_variants.py."""
    config, channels, pixels, step = CASES[name]
    with np.load(Path(__file__).parents[1] / "golden" / "variants.npz") as file:
        golden = {key.removeprefix(f"{name}: "): file[key] for key in file if name in key}
    write_torch_file(tmp_path / "model.pth", seeded_tensors(config))
    sam = samjax.load(tmp_path / "model.pth")
    assert (sam.config, sam.family) == (config, name)
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(drawn_image(48, 70))
    embedding = predictor.get_image_embedding()[0, ::channels, ::pixels, ::pixels]
    assert np.abs(embedding - golden["embedding"]).max() <= 1e-4 * golden["largest"]
    calls = [
        predictor.predict(**prompt, multimask_output=multimask, hq_token_only=only)
        for prompt in (
            {"point_coords": [[30, 20]], "point_labels": [1]},
            {"box": [10, 5, 60, 40]},
        )
        for multimask in (False, True)
        for only in (False, True)
    ]
    low_res = np.concatenate([call.low_res for call in calls])[:, ::step, ::step]
    error = np.abs(low_res - golden["low_res"]).max((1, 2))
    assert (error <= 1e-3 * golden["std"]).all(), error / golden["std"]
    scores = np.concatenate([call.scores for call in calls])
    assert np.abs(scores - golden["scores"]).max() <= 1e-4


# ------------------------------------------------------------ using SAM-HQ


def test_one_mask_in_any_case(hq):
    single = hq.predict([[30, 20]], [1], multimask_output=False)
    best = hq.predict([[30, 20]], [1], multimask_output=True)
    assert single.masks.shape == best.masks.shape == (1, 48, 70)
    assert not np.array_equal(single.low_res, best.low_res)
    many = hq.predict_many(boxes=[[1, 2, 30, 40], [5, 5, 60, 40], [3, 3, 20, 20]])
    assert many.masks.shape == (3, 1, 48, 70)
    alone = hq.predict(box=[5, 5, 60, 40])
    assert np.abs(many.low_res[1] - alone.low_res).max() <= 1e-4 * alone.low_res.std()


def test_hq_token_only_is_the_same_mask_for_both(hq):
    masks = [
        hq.predict([[30, 20]], [1], multimask_output=multi, hq_token_only=True).low_res
        for multi in (True, False)
    ]
    np.testing.assert_array_equal(*masks)
    assert not np.array_equal(masks[0], hq.predict([[30, 20]], [1]).low_res)


def test_hq_token_only_needs_sam_hq(small):
    predictor = samjax.SamPredictor(small)
    predictor.set_image(drawn_image(48, 70))
    with pytest.raises(PromptError, match=r"hq_token_only is for SAM-HQ.*leave it out"):
        predictor.predict([[3, 4]], [1], hq_token_only=True)


def test_clicks_do_not_compile(hq, compilations):
    hq.model.warmup()
    compilations.reset()
    hq.set_image(drawn_image(48, 70))
    m = HQ.low_res_size
    for count in (1, 2, 5):
        for mask in (None, np.zeros((1, m, m), np.float32)):
            for multimask in (True, False):
                for only in (True, False):
                    hq.predict(
                        np.full((count, 2), 7.0),
                        np.ones(count),
                        mask_input=mask,
                        multimask_output=multimask,
                        hq_token_only=only,
                    )
    assert compilations.count == 0


def test_embedding_is_official_outside_and_whole_in_files(hq, tmp_path):
    c, g = HQ.mask_decoder.embed_dim, HQ.grid
    assert hq.get_image_embedding().shape == (1, c, g, g)
    assert hq.current_embedding.features.shape == (g, g, 3 * c)
    expected = hq.predict([[30, 20]], [1]).low_res
    hq.save_embedding(tmp_path / "e.npz")
    fresh = samjax.SamPredictor(hq.model)
    fresh.load_embedding(tmp_path / "e.npz")
    np.testing.assert_array_equal(fresh.predict([[30, 20]], [1]).low_res, expected)


def test_automatic_masks(hq):
    """One mask a point."""
    generator = samjax.SamAutomaticMaskGenerator(
        hq.model, 4, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.1
    )
    assert len(generator.generate(drawn_image(48, 70))) == 16


def test_half_precision_is_nearly_the_same(hq):
    half = samjax.SamPredictor(samjax.load(HQ, dtype="bfloat16"))
    half.set_image(drawn_image(48, 70))
    a, b = (p.predict([[30, 20]], [1], multimask_output=False).low_res for p in (hq, half))
    assert b.dtype == np.float32
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


def test_half_precision_of_tiny_vit():
    image = prepare(drawn_image(48, 70), TINY_MOBILE.image_size)
    a, b = (
        np.asarray(samjax.load(TINY_MOBILE, dtype=dtype).encode(image).features)
        for dtype in ("float32", "bfloat16")
    )
    assert a.dtype == b.dtype == np.float32
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98
    assert not np.array_equal(a, b)


def test_command_line_of_sam_hq(tmp_path, capsys):
    """One mask, though three are asked for."""
    Image.fromarray(drawn_image(48, 70)).save(tmp_path / "photo.png")
    model = written(HQ, tmp_path / "sam_hq.pth")
    arguments = ["segment", tmp_path / "photo.png", "--point", "30,20", "--model", model]
    assert main([str(a) for a in (*arguments, "--out", tmp_path / "out")]) == 0
    assert ": 1 mask, IoU" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*_mask_*.png"))) == 1


# ------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("config", "family", "words"),
    [
        (HQ, "sam-hq", "SAM-HQ's token"),
        (MOBILE, "mobilesam", "TinyViT, width x depth 8 x 1, 12 x 1 (3 heads, window 7)"),
        (MOBILE.with_hq(), "light hq-sam", "SAM-HQ's token"),
    ],
    ids=["sam-hq", "mobilesam", "light hq-sam"],
)
def test_inspect_and_convert(config, family: str, words: str, tmp_path):
    counter = {"image_encoder.patch_embed.seq.0.bn.num_batches_tracked": np.array(7)}
    more = counter if family != "sam-hq" else {}
    source = written(config, tmp_path / "model.pth", **more)
    found = describe(source)
    assert (found.family, found.config) == (family, config)
    text = " ".join(value for _, value in describe_rows(found))
    assert words in text
    assert ("dropped 1 counters of training steps" in text) == bool(more)
    json.dumps(found.as_dict())
    for target in ("folder", "model.safetensors"):
        convert_checkpoint(source, tmp_path / target)
        again = describe(tmp_path / target)
        assert (again.family, again.config) == (family, config)
    loaded = [samjax.load(path).parameters() for path in (source, tmp_path / "folder")]
    for key, value in loaded[0].items():
        np.testing.assert_array_equal(loaded[1][key], value)


def test_published_sizes_have_names():
    names = {
        "mobile_sam": SamConfig.mobile(),
        "sam_hq_vit_b": SamConfig.vit_b().with_hq(),
        "sam_hq_vit_tiny": SamConfig.mobile().with_hq(),
    }
    assert {name: model_name(config) for name, config in names.items()} == {n: n for n in names}
    assert model_name(HQ) is None


def test_hq_decoder_alone_on_its_sam(tmp_path):
    """What SAM-HQ's training saves: the decoder, to be put on the SAM that it grew on."""
    tensors = to_official(random_parameters(HQ), HQ)
    decoder = {k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith("mask_decoder.")}
    write_torch_file(tmp_path / "epoch_11.pth", decoder)
    write_torch_file(tmp_path / "sam.pth", to_official(random_parameters(PLAIN), PLAIN))
    with pytest.raises(CheckpointError, match=r"mask decoder alone.*pass base="):
        samjax.load(tmp_path / "epoch_11.pth")
    sam = samjax.load(tmp_path / "epoch_11.pth", base=tmp_path / "sam.pth")
    assert (sam.config, sam.family) == (HQ, "sam-hq")


@pytest.mark.parametrize(
    ("config", "change", "why"),
    [
        (HQ, {"mask_decoder.hf_mlp.layers.0.weight": None}, "1 missing: mask_decoder.hf_mlp"),
        (HQ, {"mask_decoder.hf_token.weight": None}, r"\d+ unexpected: mask_decoder.hf_mlp"),
        (
            MOBILE,
            {"image_encoder.layers.1.blocks.0.attn.attention_biases": np.zeros((3, 50))},
            "50 attention biases a head are not a square number",
        ),
        (
            MOBILE,
            {"image_encoder.layers.4.blocks.0.mlp.fc1.weight": np.zeros((2, 2))},
            "a TinyViT of 5 stages, expected 4",
        ),
        (
            MOBILE,
            {"image_encoder.layers.2.blocks.1.local_conv.bn.running_var": None},
            "1 missing: image_encoder.layers.2.blocks.1.local_conv.bn.running_var",
        ),
        (
            MOBILE,
            {"image_encoder.layers.1.blocks.0.attn.attention_biases": None},
            "attention_biases' is missing",
        ),
    ],
    ids=["half a head", "no token", "biases", "stages", "norm", "no biases"],
)
def test_misfits_are_named(config, change: dict, why: str, tmp_path):
    tensors = to_official(random_parameters(config), config) | change
    path = tmp_path / "model.pth"
    write_torch_file(path, {k: v for k, v in tensors.items() if v is not None})
    with pytest.raises(CheckpointError, match=why) as caught:
        samjax.load(path)
    assert "\n" not in str(caught.value)


def test_sam_hq_without_a_global_block_is_refused():
    config = HQ
    tensors = {k: np.zeros(v.shape) for k, v in to_official(random_parameters(HQ), HQ).items()}
    for block in range(config.image_encoder.depth):
        for axis in "hw":
            key = f"image_encoder.blocks.{block}.attn.rel_pos_{axis}"
            tensors[key] = np.zeros((7, tensors[key].shape[1]))
    with pytest.raises(CheckpointError, match="without a block of global attention"):
        infer_config(tensors, where="file.pth")


# ------------------------------------------------------------------- parts


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("config", [HQ, TINY_MOBILE.with_hq()], ids=["ViT", "TinyViT"])
def test_chunks_change_nothing(config):
    model = fill_model(random_parameters(config), config, dtype=np.float32)
    image = noise(config.image_size, config.image_size, 3)
    whole = np.asarray(jax.jit(lambda x: model.encode(x))(image))
    parts = np.asarray(jax.jit(lambda x: model.encode(x, CPU_CHUNKS))(image))
    assert whole.shape == (config.grid, config.grid, 3 * config.mask_decoder.embed_dim)
    assert np.abs(parts - whole).max() <= 2e-5 * np.abs(whole).max()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [6, 7])
def test_depthwise_convolution_by_hand(side: int, stride: int):
    layer = tiny_vit.Depthwise3x3(4, stride=stride, rngs=None)
    kernel, x = noise(9, 4), noise(side, side, 4, seed=1)
    layer.kernel[...] = kernel
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    steps = range(0, side, stride)
    expected = [
        [(padded[i : i + 3, j : j + 3].reshape(9, 4) * kernel).sum(0) for j in steps] for i in steps
    ]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)


def test_biases_go_by_distance():
    table = np.asarray(tiny_vit.bias_table(jnp.arange(9.0)[None], 3))[0]
    assert table[0].tolist() == list(range(9))  # from the corner: rows, then columns
    assert table[4].tolist() == [4, 3, 4, 1, 0, 1, 4, 3, 4]
    np.testing.assert_array_equal(table, table.T)
