"""Masks are finished here: upscaling, presets' rules, measuring, NMS, run lengths, polygons."""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.masks.nms import suppress
    from samjax.masks.polygons import mask_to_polygons
    from samjax.masks.regions import mask_box, remove_small_regions
    from samjax.masks.rle import area_from_rle, masks_to_rle, rle_to_mask, to_coco_rle, to_mask
    from samjax.masks.upscale import mask_iou, mask_to_logits

__all__ = [
    "area_from_rle",
    "mask_box",
    "mask_iou",
    "mask_to_logits",
    "mask_to_polygons",
    "masks_to_rle",
    "remove_small_regions",
    "rle_to_mask",
    "suppress",
    "to_coco_rle",
    "to_mask",
]

__getattr__ = lazy(
    __name__,
    {
        "area_from_rle": "samjax.masks.rle",
        "mask_box": "samjax.masks.regions",
        "mask_iou": "samjax.masks.upscale",
        "mask_to_logits": "samjax.masks.upscale",
        "mask_to_polygons": "samjax.masks.polygons",
        "masks_to_rle": "samjax.masks.rle",
        "remove_small_regions": "samjax.masks.regions",
        "rle_to_mask": "samjax.masks.rle",
        "suppress": "samjax.masks.nms",
        "to_coco_rle": "samjax.masks.rle",
        "to_mask": "samjax.masks.rle",
    },
)
