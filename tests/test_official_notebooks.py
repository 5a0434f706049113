"""Both example notebooks of segment-anything run after their import and loading lines changed.

These are their steps, call by call, in our words; the pictures are drawn with matplotlib as
there. docs/from_segment_anything.md names the lines that had to change.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure

import samjax
from samjax import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from samjax.errors import MigrationError


@pytest.fixture
def axes() -> Iterator[object]:
    """Make axes without a global state; what was drawn must be drawable."""
    figure = Figure(figsize=(4, 4))
    yield figure.subplots()
    figure.canvas.draw()


def show_mask(mask: np.ndarray, axes: object) -> None:
    """Lay a mask over the picture: H x W or 1 x H x W, as the notebooks do."""
    height, width = mask.shape[-2:]
    colour = np.array([30, 144, 255, 150]) / 255
    axes.imshow(mask.reshape(height, width, 1) * colour.reshape(1, 1, -1))


def test_predictor_example(photo: np.ndarray, axes: object) -> None:
    sam = sam_model_registry["vit_h"](checkpoint="embedded")  # the notebook: its path
    sam.to(device="cpu")  # the notebook: "cuda"
    predictor = SamPredictor(sam)
    predictor.set_image(photo)
    axes.imshow(photo)

    # One point, three masks
    input_point, input_label = np.array([[230, 420]]), np.array([1])
    masks, scores, logits = predictor.predict(
        point_coords=input_point, point_labels=input_label, multimask_output=True
    )
    assert masks.shape == (3, *photo.shape[:2])
    for mask, _ in zip(masks, scores, strict=True):
        show_mask(mask, axes)

    # More points, with the best logits as a mask prompt
    input_point, input_label = np.array([[230, 420], [300, 500]]), np.array([1, 1])
    mask_input = logits[np.argmax(scores), :, :]
    masks, _, _ = predictor.predict(
        point_coords=input_point,
        point_labels=input_label,
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    assert masks.shape == (1, *photo.shape[:2])
    more = masks[0].sum()

    # A point to leave out
    masks, _, _ = predictor.predict(
        point_coords=input_point,
        point_labels=np.array([1, 0]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    assert masks[0].sum() != more

    # A box; then a box and a point
    input_box = np.array([20, 330, 505, 599])
    masks, _, _ = predictor.predict(
        point_coords=None, point_labels=None, box=input_box[None, :], multimask_output=False
    )
    assert masks[0].mean() > 0.05
    masks, _, _ = predictor.predict(
        point_coords=np.array([[230, 420]]),
        point_labels=np.array([0]),
        box=input_box,
        multimask_output=False,
    )
    show_mask(masks[0], axes)

    # Several boxes: np.array instead of torch.tensor, and no .cpu().numpy() at the end
    input_boxes = np.array([[20, 330, 505, 599], [165, 90, 330, 310], [75, 480, 170, 520]])
    transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, photo.shape[:2])
    masks, _, _ = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed_boxes, multimask_output=False
    )
    assert masks.shape == (3, 1, *photo.shape[:2])
    for mask in masks:
        show_mask(mask, axes)
    several = predictor.predict_many(boxes=input_boxes, multimask_output=False)
    np.testing.assert_array_equal(masks, several.masks)

    # Several images in one call of the model: predict_images instead
    batched_input = [
        {"image": photo, "boxes": input_boxes},
        {"image": photo[:300, :400], "point_coords": np.array([[[100, 100]]])},
    ]
    with pytest.raises(MigrationError, match=r"predict_images\(images, prompts\)"):
        sam(batched_input, multimask_output=False)
    output = predictor.predict_images(
        [photo, photo[:300, :400]],
        [
            {"boxes": input_boxes},
            {"point_coords": np.array([[[100, 100]]]), "point_labels": np.array([[1]])},
        ],
        multimask_output=False,
    )
    assert [each.masks.shape for each in output] == [(3, 1, *photo.shape[:2]), (1, 1, 300, 400)]


@pytest.mark.filterwarnings("ignore::samjax.errors.NoMasksWarning")  # of random weights
def test_automatic_mask_generator_example(
    embedded: samjax.Segmenter, small: samjax.Segmenter, photo: np.ndarray, axes: object
) -> None:
    embedded.to(device="cpu")
    mask_generator = SamAutomaticMaskGenerator(
        embedded, points_per_side=8, pred_iou_thresh=0.3, stability_score_thresh=0.4
    )
    masks = mask_generator.generate(photo)
    assert len(masks) > 1
    assert list(masks[0]) == [
        *("segmentation", "area", "bbox", "predicted_iou"),
        *("point_coords", "stability_score", "crop_box"),
    ]
    axes.imshow(photo)
    ordered = sorted(masks, key=lambda each: each["area"], reverse=True)
    canvas = np.ones((*ordered[0]["segmentation"].shape[:2], 4))
    canvas[:, :, 3] = 0
    rng = np.random.default_rng(0)
    for each in ordered:
        canvas[each["segmentation"]] = np.concatenate([rng.random(3), [0.35]])
    axes.imshow(canvas)

    # The second generator, with the notebook's own arguments
    mask_generator_2 = SamAutomaticMaskGenerator(
        model=small,
        points_per_side=32,
        pred_iou_thresh=0.86,
        stability_score_thresh=0.92,
        crop_n_layers=1,
        crop_n_points_downscale_factor=2,
        min_mask_region_area=100,
    )
    assert isinstance(mask_generator_2.generate(photo[:96, :120]), list)
