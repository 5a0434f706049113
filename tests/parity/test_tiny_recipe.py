"""The recipe of the embedded checkpoint: the fast network is the official one; a run resumes."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import samjax
from convert.official import build_official
from convert.tiny import calibrate, train
from convert.tiny.network import Network
from convert.tiny.objective import click_loss, correcting_clicks, mask_loss
from convert.tiny.samples import BOX, MEAN, STD, Sampler
from convert.tiny.sources import Picture, Sources, _bsds, read_sources
from convert.tiny.start import random_start, tiny_config, warm_start
from samjax.engine.load import embedded_path

pytestmark = pytest.mark.parity
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Drawn photographs in the three layouts: discs and bars on noise."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in (
        "bsds500/train/images",
        "bsds500/train/segments",
        "coco_tiny/train2017",
        "coco_tiny/annotations",
        "nuclei/images",
        "nuclei/labels",
    ):
        (root / folder).mkdir(parents=True)
    coco = {"images": [], "annotations": []}
    for i in range(12):
        image = rng.integers(0, 90, (120, 160, 3), np.uint8)
        labels = np.zeros((120, 160), np.uint16)
        for number in range(1, 4):
            x, y = (int(v) for v in (rng.integers(20, 140), rng.integers(20, 100)))
            colour = rng.integers(120, 255, 3).tolist()
            cv2.circle(image, (x, y), 18, colour, -1)
            cv2.circle(labels, (x, y), 18, number, -1)
            ring = [x - 9, y - 9, x + 9, y - 9, x + 9, y + 9, x - 9, y + 9]
            coco["annotations"].append(
                {"image_id": i, "iscrowd": 0, "area": 324, "segmentation": [ring]}
            )
        cv2.imwrite(str(root / f"bsds500/train/images/{i}.jpg"), image)
        cv2.imwrite(str(root / f"bsds500/train/segments/{i}_0.png"), labels)
        cv2.imwrite(str(root / f"coco_tiny/train2017/{i}.jpg"), image)
        cv2.imwrite(str(root / f"nuclei/images/{i}.png"), image)
        cv2.imwrite(str(root / f"nuclei/labels/{i}.png"), labels)
        coco["images"].append({"id": i, "file_name": f"{i}.jpg"})
    (root / "coco_tiny/annotations/instances_train2017.json").write_text(json.dumps(coco))
    return root


@pytest.mark.parametrize(("size", "with_mask"), [(256, False), (256, True), (224, True)])
def test_the_fast_network_gives_the_official_numbers(size, with_mask):
    """Windows of 8 cells, and of 7 where 8 do not divide the grid."""
    torch.manual_seed(0)
    config = tiny_config(size, 128, 8, 512)
    assert config.image_encoder.window_size == (7 if size == 224 else 8)
    model = build_official(config)
    with torch.no_grad():
        for parameter in model.parameters():  # positions and biases are zero at first
            parameter.add_(0.05 * torch.randn_like(parameter))
        network, weights = Network(config), model.state_dict()
        image = torch.randn(1, 3, size, size)
        embedding = model.image_encoder(image)
        fast = network.encode(weights, network.patches(image))
        assert torch.allclose(embedding.flatten(2).transpose(1, 2), fast, atol=1e-4)
        xy, labels = torch.rand(3, 2, 2) * size, torch.tensor([[1, 0], [0, 1], [1, 1]])
        mask = torch.randn(3, 1, size // 4, size // 4) * 4 if with_mask else None
        sparse, dense = model.prompt_encoder((xy, labels), None, mask)
        for i in range(3):
            logits, scores = model.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse[i : i + 1],
                dense_prompt_embeddings=dense[i : i + 1],
            )
            # The official code adds the half pixel, and a padding point where there is no box.
            padded = torch.cat([xy[i : i + 1] + 0.5, torch.zeros(1, 1, 2)], 1)
            marks = torch.cat([labels[i : i + 1], torch.tensor([[-1]])], 1)
            embedded = None
            if mask is not None:
                embedded = network.embed_masks(weights, network.to_token_order(mask[i]))
            tokens = network.tokens(weights, padded, marks)
            ours, predicted = network.decode(weights, fast, tokens, embedded)
            ours = network.from_token_order(ours)
            assert (ours - logits).abs().max() < 1e-3 * logits.std()
            assert torch.allclose(predicted, scores, atol=1e-4)


def test_samples_mark_their_objects(data):
    sources = read_sources(data, [], [], held_out=False)
    assert [len(v) for v in sources.images.values()] == [11, 11, 11]  # the tenth is held out
    assert [len(v) for v in read_sources(data, [], [], True).images.values()] == [1, 1, 1]
    sampler = Sampler(sources, 128, 0)
    kinds = set()
    for _ in range(40):
        sample = sampler.sample(4)
        assert sample.image.shape == (3, 128, 128)
        assert sample.image.dtype == np.float32
        for mask, corners, kind in zip(sample.masks, sample.corners, sample.kinds, strict=True):
            assert mask.max() > 0
            assert not (mask * (sample.valid == 0)).any()
            rows, cols = np.nonzero(mask)
            if kind == BOX:  # tight, or moved by noise of at most 20 pixels at 1024, twice
                left, top = corners[0] / 4
                assert abs(left - cols.min()) < 4
                assert abs(top - rows.min()) < 4
            else:
                x, y = (corners[0] // 4).astype(int)
                assert mask[y, x] > 0
            kinds.add(int(kind))
    assert kinds == {0, 1}


def test_without_augmentation_photographs_are_shown_whole_and_as_they_are():
    photograph = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    parts = np.zeros((60, 90), np.uint8)
    parts[:, :45], parts[:, 45:] = 1, 2
    encoded = [cv2.imencode(".png", x)[1].tobytes() for x in (photograph[..., ::-1], parts)]
    sources = Sources({"bsds": [Picture(encoded[0], (encoded[1],))]})
    images = {}
    for augment in (0.0, 1.0):
        sampler = Sampler(sources, 128, 0, paste=0, augment=augment)
        images[augment] = {sampler.sample(2).image.tobytes() for _ in range(30)}
    shown = cv2.resize(photograph.astype(np.float32), (128, 85), interpolation=cv2.INTER_LINEAR)
    expected = np.zeros((128, 128, 3), np.float32)
    expected[:85] = (shown - MEAN) / STD
    found = [np.frombuffer(x, np.float32).reshape(3, 128, 128) for x in images[0.0]]
    assert len(found) == 2  # mirrored or not
    assert min(np.abs(x.transpose(1, 2, 0) - expected).max() for x in found) < 0.02
    assert len(images[1.0]) == 30


def test_specks_of_human_segmentations_are_no_segments(tmp_path):
    for name in ("images", "segments"):
        (tmp_path / "bsds500/train" / name).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "bsds500/train/images/7.jpg"), np.zeros((100, 100, 3), np.uint8))
    segments = np.zeros((100, 100), np.uint16)
    segments[:50], segments[60:65, 60:65], segments[80:86, 80:86] = 1, 2, 3
    cv2.imwrite(str(tmp_path / "bsds500/train/segments/7_0.png"), segments)
    (picture,) = _bsds(tmp_path / "bsds500/train")
    assert np.unique(picture.labels(0)).tolist() == [0, 1, 2, 4]  # 25 pixels of 10,000 are gone


def test_a_pack_brings_pictures_with_levels_of_labels(data, tmp_path):
    """Of a source the held-out tenth, of labels both levels, of noisy sources no specks."""
    for source, count in (("ccp_clothing", 10), ("camvid", 1)):
        folder = tmp_path / source
        for name in ("images", "labels", "labels2"):
            (folder / name).mkdir(parents=True)
        for i in range(count):
            image = np.full((100, 100, 3), 20 * i, np.uint8)
            parts, whole = np.zeros((2, 100, 100), np.uint16)
            parts[10:50, 10:50], parts[50:90, 10:50], parts[95:97, 95:97] = 1, 300, 7
            whole[10:90, 10:50] = 1
            cv2.imwrite(str(folder / f"images/{i}.jpg"), image)
            cv2.imwrite(str(folder / f"labels/{i}.png"), parts)
            if source == "ccp_clothing":
                cv2.imwrite(str(folder / f"labels2/{i}.png"), whole)
    sources = read_sources(data, [], [], False, [tmp_path])
    held_out = read_sources(data, [], [], True, [tmp_path])
    clothes, streets = sources.images["ccp_clothing"], sources.images["camvid"]
    assert (len(clothes), len(held_out.images["ccp_clothing"])) == (9, 1)
    assert clothes[3].image().shape == (100, 100, 3)
    assert [np.unique(clothes[3].labels(i)).tolist() for i in (0, 1)] == [[0, 1, 7, 300], [0, 1]]
    assert np.unique(streets[0].labels(0)).tolist() == [0, 1, 300]
    kinds = Sampler(sources, 128, 0).kinds
    assert {"ccp_clothing", "camvid", "scene"} <= set(kinds)
    assert not held_out.images["camvid"]
    assert "camvid" not in Sampler(held_out, 128, 0).kinds


def test_the_click_loss_wants_every_candidate_on_the_clicks_side():
    network = Network(tiny_config(256, 128, 4, 512))
    image = torch.full((1, 4, 64, 64), 5.0)  # four candidates that cover everything
    image[:, :, 20, 30] = -5.0  # but for one pixel
    logits = network.to_token_order(image)
    at, elsewhere = [30 * 4 + 1.0, 20 * 4 + 3.0], [10.0, 10.0]
    points = torch.tensor([[at, elsewhere, elsewhere]])
    for labels, share in (((0, 1, -1), 1.0), ((1, 0, 2), 0.0), ((1, 1, 3), 0.5)):
        loss, obeyed = click_loss(network, logits, points, torch.tensor([labels]))
        assert obeyed == share
        assert (loss < 0.01) == (share == 1)


def test_the_loss_prefers_the_right_mask_and_knows_its_iou():
    target = torch.zeros(1, 16)
    target[:, :4] = 1
    right = (target * 20 - 10)[:, None].expand(1, 4, 16)
    valid, scores = torch.ones(1, 16), torch.ones(1, 4)
    best, iou = mask_loss(right, scores, target, valid, 0.0)
    assert iou.tolist() == [[1, 1, 1, 1]]
    worse, iou = mask_loss(-right, scores, target, valid, 0.0)
    assert iou.tolist() == [[0, 0, 0, 0]]
    assert best < 0.1 < worse


def corrections(answer):
    """Cells [200, 2] and labels [200] of clicks that correct an answer [64, 64] to a square."""
    torch.manual_seed(0)
    network = Network(tiny_config(256, 128, 4, 512))
    answers, truth = answer.repeat(200, 1, 1), torch.zeros(200, 64, 64)
    truth[:, 10:30, 10:30] = 1
    tokens = map(network.to_token_order, (answers, truth, torch.ones_like(truth)))
    xy, labels = correcting_clicks(network, *tokens)
    return (xy[:, 0] / 4).long(), labels[:, 0]


def test_corrections_are_clicks_where_the_mask_is_wrong():
    answer = torch.full((64, 64), -5.0)
    answer[10:30, 20:50] = 5.0  # misses the left half, spills to the right
    cells, labels = corrections(answer)
    assert 0 < labels.sum() < len(labels)
    for (x, y), label in zip(cells.tolist(), labels.tolist(), strict=True):
        assert 10 <= y < 30
        assert 10 <= x < 20 if label else 30 <= x < 50


def test_corrections_anywhere_take_away_half_the_time_however_little_there_is_to_take():
    answer = torch.full((64, 64), -5.0)
    answer[40:44, 40:45] = 5.0  # 20 cells too many, 400 missing
    labels = corrections(answer)[1]
    assert 20 < int((labels == 0).sum()) < 55  # half of the share that DEEP leaves, .175 of 200


def test_most_corrections_are_the_deepest_pixel_of_what_is_wrong():
    answer = torch.full((64, 64), -5.0)
    answer[10:30, 10:31] = 5.0
    answer[40:61, 40:61] = 5.0
    cells, labels = corrections(answer)
    assert 110 < int((cells == 50).all(1).sum()) < 155  # DEEP is .65
    assert not labels.any()


def loss_by_hand(logits, scores, target, valid, balance, single):
    """The loss of mask_loss, one prompt after the other, in float64."""
    total = []
    for z, score, t, inside in zip(logits, scores, target, valid, strict=True):
        z, t = z[:, inside > 0].double(), t[inside > 0].double()
        p = 1 / (1 + torch.exp(-z))
        ratio = min(60, max(1, (len(t) - t.sum()) / t.sum()))
        weight = t * ratio**balance + (1 - t)
        entropy = -(weight * (t * p.log() + (1 - t) * (1 - p).log())).mean(1)
        dice = 1 - (2 * (p * t).sum(1) + 1) / ((p**2).sum(1) + (t**2).sum() + 1)
        loss = (0.3 * entropy + dice).tolist()
        binary, truth = z > 0, t > 0.5
        iou = (binary & truth).sum(1) / (binary | truth).sum(1)
        shown = loss[1 + int(score[1:].argmax())]
        three = min(loss[1:]) + 0.2 * shown + 0.05 * sum(loss[1:]) / 3
        quality = 2 * float(((score - iou) ** 2).mean())
        total.append(single * loss[0] + (2 - single) * three + quality)
    return sum(total) / len(total)


@pytest.mark.parametrize(("balance", "single"), [(0.0, 1.0), (0.0, 1.5), (0.6, 1.0), (0.6, 0.25)])
def test_the_loss_is_the_one_written_out_by_hand(balance, single):
    torch.manual_seed(3)
    logits, scores = 2 * torch.randn(6, 4, 50), torch.rand(6, 4)
    valid = (torch.rand(6, 50) < 0.8).float()
    target = (torch.rand(6, 50) < 0.2) * torch.rand(6, 50) * valid  # shares, none in the padding
    found = float(mask_loss(logits, scores, target, valid, balance, single)[0])
    assert found == pytest.approx(
        loss_by_hand(logits, scores, target, valid, balance, single), rel=1e-5
    )


def test_weights_of_another_size_start_with_resized_positions(data, tmp_path):
    from samjax.checkpoint.formats.safetensors import write_safetensors

    sampler = Sampler(read_sources(data, [], [], held_out=False), 256, 0)
    small = random_start(tiny_config(256, 64, 8, 128), sampler).state_dict()
    write_safetensors(tmp_path / "a.safetensors", {k: v.numpy() for k, v in small.items()})
    blocks = "image_encoder.blocks."
    for size, grid, windowed in ((384, 24, 15), (448, 28, 13)):
        config = tiny_config(size, 64, 8, 128)
        large = warm_start(config, tmp_path / "a.safetensors").state_dict()
        assert large["image_encoder.pos_embed"].shape == (1, grid, grid, 64)
        assert config.image_encoder.global_blocks[0] == 1
        assert large[blocks + "0.attn.rel_pos_h"].shape == (windowed, 64)
        assert large[blocks + "1.attn.rel_pos_w"].shape == (2 * grid - 1, 64)
        same = "mask_decoder.mask_tokens.weight"
        assert torch.equal(large[same], small[same])


def test_a_deeper_network_starts_with_the_numbers_of_the_shallow_one(data, tmp_path):
    from samjax.checkpoint.formats.safetensors import write_safetensors

    sampler = Sampler(read_sources(data, [], [], held_out=False), 256, 0)
    shallow, deep = tiny_config(256, 64, 8, 128), tiny_config(256, 64, 12, 128)
    start = random_start(shallow, sampler).state_dict()
    write_safetensors(tmp_path / "a.safetensors", {k: v.numpy() for k, v in start.items()})
    patches, made = torch.randn(1, 256, 768), []
    for config in (shallow, deep):
        state = warm_start(config, tmp_path / "a.safetensors").state_dict()
        with torch.no_grad():
            made.append(Network(config).encode(state, patches))
    torch.testing.assert_close(made[1], made[0])
    for depth in (4, 6):
        with pytest.raises(SystemExit, match=f"a depth of {depth} cannot start"):
            warm_start(tiny_config(256, 64, depth, 128), tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--size", "400"], "an input of 400 pixels: give a multiple of 128 or 112"),
        (["--depth", "6"], "a depth of 6 cannot start from 8 blocks"),
        (["--width", "64"], "its weights are not of --width 64 and --decoder-mlp 1024"),
        (["--init", "nothing.safetensors"], "--init: nothing.safetensors: no such file"),
    ],
)
def test_weights_that_do_not_fit_are_told_before_anything_is_written(
    options, told, tmp_path, monkeypatch
):
    weights = str(embedded_path())
    given = ["--data", ".", "--out", str(tmp_path / "run"), "--size", "384", "--init", weights]
    monkeypatch.setattr(sys, "argv", ["train", *given, *options])
    with pytest.raises(SystemExit, match=told):
        train.main()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [[], ["--depth", "8"]])
def test_the_state_of_an_earlier_recipe_or_another_model_is_not_gone_on_from(
    options, tmp_path, monkeypatch
):
    given = ["--data", ".", "--out", str(tmp_path), "--width", "64", "--depth", "4"]
    monkeypatch.setattr(sys, "argv", ["train", *given])
    state = train.shared_state(train.parse_arguments())
    kept = {k: state[k] for k in (*train.MOMENTS, "clock", "buffer")}
    if options:  # without a layout it is an earlier recipe's, of the same length
        kept["layout"] = state["layout"]
    torch.save(kept, tmp_path / "state.pt")
    monkeypatch.setattr(sys, "argv", ["train", *given, *options])
    with pytest.raises(SystemExit, match="another model or an earlier recipe: choose another"):
        train.main()
    assert [f.name for f in tmp_path.iterdir()] == ["state.pt"]


def test_a_run_trains_stops_and_goes_on(data, tmp_path):
    """Two processes, a few steps; run again with more time it goes on; samjax loads the file."""
    command = [sys.executable, "-W", "ignore", "-m", "convert.tiny.train"]
    options = {
        "--data": data,
        "--out": tmp_path,
        "--processes": 2,
        "--width": 64,
        "--depth": 4,
        "--decoder-mlp": 64,
        "--size": 128,
        "--batch": 1,
        "--prompts": 2,
    }
    command += [str(word) for pair in options.items() for word in pair]

    def run(minutes: float) -> tuple[str, list[dict]]:
        done = subprocess.run(
            [*command, "--minutes", str(minutes)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        log = (tmp_path / "log.jsonl").read_text()
        return done.stdout, [json.loads(line) for line in log.splitlines()]

    _, records = run(0.05)
    # However long the first steps took on a busy machine, there is time left for more.
    resumed, records = run(records[-1]["seconds"] / 60 + 0.1)
    assert f"going on after step {records[0]['step']}" in resumed
    assert records[-1]["step"] > records[0]["step"] > 0
    assert 0 <= records[-1]["held_out"]["box"] <= 1
    sam = samjax.load(tmp_path / "last.safetensors")
    assert sam.config.image_size == 128


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--processes", "0"], "--processes: 0: give a whole number of at least 1"),
        (["--minutes", "0"], "--minutes: 0: give a number above 0"),
        (["--width", "100"], "--width: 100: give a multiple of 64"),
        (["--taught", "nowhere"], "--taught: nowhere is no folder"),
        (["--backgrounds", "nowhere"], "--backgrounds: nowhere is no folder"),
        (["--device", "tpu"], "--device: tpu: PyTorch has none here"),
    ],
)
def test_options_that_cannot_be_trained_with_are_told_in_a_line(
    options, told, data, tmp_path, monkeypatch, capsys
):
    given = ["train", "--data", str(data), "--out", str(tmp_path / "run"), *options]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_data_without_the_expected_folders_are_told_before_anything_is_written(
    tmp_path, monkeypatch
):
    given = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--width", "64"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match="has no bsds500/train, no coco_tiny"):
        train.main()
    assert not (tmp_path / "run").exists()


def test_lines_in_the_quality_head_are_the_lines_that_were_fitted():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 8)).astype("f4"), rng.normal(size=4).astype("f4")
    lines, inside = rng.normal(size=(4, 2)), rng.normal(size=(5, 8)).astype("f4")
    folded, moved = calibrate.fold(weight, bias, lines)
    expected = (inside @ weight.T + bias) * lines[:, 0] + lines[:, 1]
    np.testing.assert_allclose(inside @ folded.T + moved, expected, rtol=1e-4, atol=1e-5)
    true = rng.uniform(size=(4000, 4))
    found = calibrate.Predictions(true / 2 + 0.1, true, np.full(4000, "box"))
    np.testing.assert_allclose(calibrate.fit(found), [[2, -0.2]] * 4, atol=1e-9)
    assert calibrate.calibration_error(true.ravel(), true.ravel()) < 1e-12
    # a tenth too much everywhere is an error of a tenth
    sure = rng.uniform(0.1, 0.8, 4000)
    assert calibrate.calibration_error(sure + 0.1, sure) == pytest.approx(0.1)


def test_a_file_is_calibrated_on_one_half_and_judged_on_the_other(data, tmp_path):
    out = tmp_path / "calibrated.safetensors"
    embedded = embedded_path()
    command = [sys.executable, "-m", "convert.tiny.calibrate", embedded, out, "--data", data]
    done = subprocess.run(
        [*map(str, command), "--masks", "3"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["after"]["box_oracle"] == report["before"]["box_oracle"]
    first, second = samjax.load(embedded), samjax.load(out)
    assert second.automatic_thresholds == first.automatic_thresholds
    image = np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8)
    before, after = (samjax.SamPredictor(sam) for sam in (first, second))
    for predictor in (before, after):
        predictor.set_image(image)
    masks, scores, _ = before.predict([[40, 40]], [1])
    same, moved, _ = after.predict([[40, 40]], [1])
    assert (masks == same).all()
    lines = np.array(report["lines"])[1:]
    np.testing.assert_allclose(moved, scores * lines[:, 0] + lines[:, 1], atol=2e-3)  # float16
