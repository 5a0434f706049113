"""Test automatic masks without torch; tests/parity compares with the official generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samjax.automatic.generator import (
    FoundMasks,
    SamAutomaticMaskGenerator,
    clean_regions,
    drop_contained,
)
from samjax.errors import NoMasksWarning, PromptError
from samjax.masks.measure import padded_side
from samjax.masks.regions import remove_small_regions
from samjax.masks.rle import area_from_rle, mask_to_rle, rle_to_mask
from samjax.predictor import SamPredictor

# The embedded checkpoint is unsure of most masks: thresholds far below the defaults.
LOW = {"points_per_side": 8, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.4}


@pytest.fixture(scope="module")
def records(embedded, photo) -> list[dict]:
    return SamAutomaticMaskGenerator(embedded, **LOW).generate(photo)


def test_records_are_the_official_ones(records: list[dict], photo: np.ndarray) -> None:
    assert len(records) >= 5
    for record in records:
        assert list(record) == [
            "segmentation",
            "area",
            "bbox",
            "predicted_iou",
            "point_coords",
            "stability_score",
            "crop_box",
        ]
        mask = record["segmentation"]
        assert mask.shape == photo.shape[:2]
        assert mask.dtype == bool
        assert record["area"] == mask.sum() > 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, w, h = record["bbox"]
        assert [x, y, x + w, y + h] == [columns[0], rows[0], columns[-1], rows[-1]]
        assert record["predicted_iou"] > LOW["pred_iou_thresh"]
        assert record["stability_score"] >= LOW["stability_score_thresh"]
        assert record["crop_box"] == [0, 0, photo.shape[1], photo.shape[0]]


def test_a_record_is_what_its_point_gives(embedded, photo, records: list[dict]) -> None:
    predictor = SamPredictor(embedded)
    predictor.set_image(photo)
    for record in records[:3]:
        masks, scores, _ = predictor.predict(record["point_coords"], [1])
        logits = predictor.predict(record["point_coords"], [1], return_logits=True)[0]
        i = int(np.argmin(np.abs(scores - record["predicted_iou"])))
        assert scores[i] == pytest.approx(record["predicted_iou"], abs=1e-5)
        assert (masks[i] != record["segmentation"]).mean() < 1e-4
        stability = (logits[i] > 1).sum() / (logits[i] > -1).sum()
        assert stability == pytest.approx(record["stability_score"], abs=1e-3)


@pytest.mark.parametrize("mode", ["uncompressed_rle", "coco_rle"])
def test_output_modes_hold_the_same_masks(embedded, photo, records, mode: str) -> None:
    coded = SamAutomaticMaskGenerator(embedded, **LOW, output_mode=mode).generate(photo)
    assert [r["bbox"] for r in coded] == [r["bbox"] for r in records]
    kind = str if mode == "coco_rle" else list
    for a, b in zip(coded, records, strict=True):
        assert isinstance(a["segmentation"]["counts"], kind)
        np.testing.assert_array_equal(rle_to_mask(a["segmentation"]), b["segmentation"])


def test_batches_do_not_change_the_result(embedded, photo, records: list[dict]) -> None:
    again = SamAutomaticMaskGenerator(embedded, **LOW, points_per_batch=7).generate(photo)
    assert [r["bbox"] for r in again] == [r["bbox"] for r in records]


def test_a_saved_embedding_is_used_again(embedded, photo, records, tmp_path: Path) -> None:
    predictor = SamPredictor(embedded)
    predictor.set_image(photo)
    path = predictor.save_embedding(tmp_path / "photo.npz")
    predictor.reset_image()
    predictor.load_embedding(path)
    generator = SamAutomaticMaskGenerator(embedded, **LOW)
    again = generator.generate(None, embedding=predictor.current_embedding)
    assert [r["bbox"] for r in again] == [r["bbox"] for r in records]
    crops = SamAutomaticMaskGenerator(embedded, **LOW, crop_n_layers=1)
    with pytest.raises(PromptError, match="not with crops"):
        crops.generate(None, embedding=predictor.current_embedding)


def test_crops_and_tiles_find_masks_in_their_parts(embedded, photo) -> None:
    seen = []
    crops = SamAutomaticMaskGenerator(embedded, **{**LOW, "points_per_side": 4}, crop_n_layers=1)
    records = crops.generate(photo, progress=lambda done, total: seen.append((done, total)))
    assert len({tuple(r["crop_box"]) for r in records}) > 1
    assert seen[-1] == (5 * 16, 5 * 16)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    tiles = SamAutomaticMaskGenerator(
        embedded, **{**LOW, "points_per_side": 4}, tile_size=310, tile_halo=32
    )
    records = tiles.generate(photo)
    boxes = {tuple(r["crop_box"]) for r in records}
    assert len(boxes) > 1
    assert all(w <= 374 and h <= 374 for _, _, w, h in boxes)
    for record in records:
        assert record["segmentation"].shape == photo.shape[:2]
        x, y, w, h = record["crop_box"]
        outside = record["segmentation"].copy()
        outside[y : y + h, x : x + w] = False
        assert not outside.any()


def test_thresholds_that_keep_nothing_or_everything(embedded, photo) -> None:
    nothing = {"pred_iou_thresh": 2.0, "stability_score_thresh": 0.0, "points_per_side": 3}
    with pytest.warns(NoMasksWarning, match="pred_iou_thresh 2 "):
        assert SamAutomaticMaskGenerator(embedded, **nothing).generate(photo) == []
    everything = {
        "points_per_side": 2,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,
    }
    assert len(SamAutomaticMaskGenerator(embedded, **everything).generate(photo)) == 12


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (40, 1)])
def test_very_small_images(embedded, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 127, np.uint8)
    told: list[str] = []  # whether there is a mask is the checkpoint's choice
    for record in SamAutomaticMaskGenerator(embedded, **LOW).generate(image, on_empty=told.append):
        assert record["segmentation"].shape == size


def test_a_uniform_image_is_no_error(embedded) -> None:
    """Which parts of nothing count as masks is the checkpoint's choice: they are proper records."""
    image = np.full((200, 300, 3), 90, np.uint8)
    told: list[str] = []
    generator = SamAutomaticMaskGenerator(embedded, points_per_side=4)
    records = generator.generate(image, on_empty=told.append)
    assert len(told) == (not records)
    assert len({record["segmentation"].tobytes() for record in records}) == len(records) < 16
    for record in records:
        assert record["area"] == record["segmentation"].sum() > 0
        assert record["predicted_iou"] > generator.pred_iou_thresh
        assert record["stability_score"] >= generator.stability_score_thresh
    # Predicted IoUs are a regression, which may exceed 1: the checkpoint is sure of an empty image.
    unreachable = SamAutomaticMaskGenerator(embedded, points_per_side=4, pred_iou_thresh=2.0)
    with pytest.warns(NoMasksWarning):
        assert unreachable.generate(image) == []


def test_a_large_panorama_stays_within_memory(embedded) -> None:
    image = np.zeros((3000, 20000, 3), np.uint8)
    image[500:2500, 2000:9000] = (200, 120, 40)
    generator = SamAutomaticMaskGenerator(
        embedded,
        points_per_side=None,
        point_grids=[np.array([[0.25, 0.5]])],
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        box_nms_thresh=1.0,
        output_mode="coco_rle",
    )
    records = generator.generate(image)
    assert len(records) == 3
    assert records[0]["segmentation"]["size"] == [3000, 20000]


def test_area_filters_and_small_regions(embedded, photo, records: list[dict]) -> None:
    areas = sorted(r["area"] for r in records)
    low, high = areas[1], areas[-2]
    few = SamAutomaticMaskGenerator(embedded, **LOW, min_area=low, max_area=high).generate(photo)
    assert sorted(r["area"] for r in few) == [a for a in areas if low <= a <= high]
    cleaned = SamAutomaticMaskGenerator(embedded, **LOW, min_mask_region_area=400).generate(photo)
    assert cleaned
    for record in cleaned:
        assert not remove_small_regions(record["segmentation"], 400, "holes")[1]


def proposals(masks: list[np.ndarray], scores: list[float]) -> FoundMasks:
    count = len(masks)
    boxes = np.tile(np.array([[0, 0, 9, 9]]), (count, 1))
    return FoundMasks(
        [mask_to_rle(mask) for mask in masks],
        boxes,
        np.array(scores, np.float32),
        np.ones(count, np.float32),
        np.zeros((count, 2)),
        boxes,
    )


def test_holes_are_filled_and_islands_removed() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[5, 5] = False
    mask[15:17, 15:17] = True
    filled, changed = remove_small_regions(mask, 4, "holes")
    assert changed
    assert filled[5, 5]
    alone, changed = remove_small_regions(filled, 5, "islands")
    assert changed
    assert alone.sum() == 100
    assert not remove_small_regions(alone, 5, "islands")[1]
    # All islands are small: the largest stays.
    assert remove_small_regions(mask, 1000, "islands")[0].sum() == 99
    kept = clean_regions(proposals([mask, alone], [0.9, 0.8]), 5, 0.7)
    assert len(kept) == 1, "the cleaned mask is the same as the other, which wins"
    assert area_from_rle(kept.rles[0]) == 100


def test_of_nested_masks_the_more_certain_stays() -> None:
    whole, part, other = np.zeros((3, 20, 20), bool)
    whole[:10], part[2:4, :10], other[12:] = True, True, True
    masks = proposals([part, whole, other], [0.7, 0.9, 0.8])
    assert drop_contained(masks, 0.9).tolist() == [1, 2]
    assert drop_contained(proposals([part, whole], [0.9, 0.7]), 0.9).tolist() == [0]
    assert drop_contained(proposals([], []), 0.9).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"points_per_side": None}, "point_grids"),
        ({"points_per_side": 0}, "at least 1"),
        ({"crop_n_layers": 30}, "from 0 to 6"),
        ({"crop_n_layers": -1}, "from 0 to 6"),
        ({"points_per_batch": 0}, "at least 1"),
        ({"output_mode": "png"}, "binary_mask"),
        ({"points_per_side": None, "point_grids": [np.zeros((3, 3))]}, "N x 2"),
        ({"points_per_side": None, "point_grids": [np.zeros((3, 2))], "crop_n_layers": 1}, "2 lay"),
        ({"tile_size": 100, "crop_n_layers": 1}, "do not go together"),
    ],
)
def test_arguments_that_do_not_fit(embedded, arguments: dict, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        SamAutomaticMaskGenerator(embedded, **arguments)


def test_sizes_share_compiled_functions(embedded, compilations) -> None:
    assert [padded_side(n) for n in (1, 8, 9, 600, 640, 641, 1024, 1025)] == [
        8, 8, 16, 640, 640, 704, 1024, 1152,
    ]  # fmt: skip
    all_kept = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    generator = SamAutomaticMaskGenerator(embedded, **{**LOW, **all_kept})
    rng = np.random.default_rng(0)
    generator.generate(rng.integers(0, 255, (250, 190, 3), np.uint8))
    compilations.reset()
    generator.generate(rng.integers(0, 255, (243, 186, 3), np.uint8))
    assert compilations.count == 0
