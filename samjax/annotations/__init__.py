"""Records to files that other programs read, and back: COCO, YOLO, label maps, NPZ.

The unit is the official automatic-mask record, a dict of ``segmentation`` (any of the three forms
of `samjax.rle`), ``area`` in pixels, ``bbox`` [x, y, w, h] in pixels (w and h are the last minus
the first pixel, as in the official code), ``predicted_iou``, ``stability_score``,
``point_coords`` and ``crop_box``, with two optional keys: ``label``, the name of the category,
and ``score``. Only ``segmentation`` is needed to write; readers give what the file holds, and
``area`` and ``bbox`` of the mask.
"""

from samjax.annotations.coco import coco_dataset, read_coco, write_coco
from samjax.annotations.label_map import (
    label_map_to_records,
    read_label_png,
    to_label_map,
    write_label_png,
)
from samjax.annotations.npz import read_npz, write_npz
from samjax.annotations.records import AnnotatedImage, convert_records
from samjax.annotations.yolo import read_yolo, write_yolo

__all__ = [
    "AnnotatedImage",
    "coco_dataset",
    "convert_records",
    "label_map_to_records",
    "read_coco",
    "read_label_png",
    "read_npz",
    "read_yolo",
    "to_label_map",
    "write_coco",
    "write_label_png",
    "write_npz",
    "write_yolo",
]
