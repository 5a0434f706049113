"""Write mask records to COCO, YOLO, labelme, label map and NPZ files, and read them back.

A record is the dict of the official automatic mask generator: ``segmentation`` (any of the three
forms of `samjax.masks.rle`), ``area`` in pixels, ``bbox`` [x, y, w, h] in pixels (w and h are the
last minus the first pixel, as in the official code), ``predicted_iou``, ``stability_score``,
``point_coords`` and ``crop_box``, with optional keys: ``label``, the name of the category,
``score``, ``id``, ``iscrowd``, ``attributes``, a dict, and ``point_labels``, 1 or 0 for each
point. Writers need only ``segmentation``;
readers return the keys that the file holds, and the mask's ``area`` and ``bbox``.
"""

from samjax.annotations.coco import coco_dataset, read_coco, write_coco
from samjax.annotations.label_map import (
    label_map_to_records,
    read_label_png,
    to_label_map,
    write_label_png,
)
from samjax.annotations.labelme import read_labelme, write_labelme
from samjax.annotations.npz import read_npz, write_npz
from samjax.annotations.records import AnnotatedImage, convert_records
from samjax.annotations.semantic import (
    read_legend,
    read_semantic,
    to_class_map,
    write_semantic,
)
from samjax.annotations.yolo import read_yolo, write_yolo

__all__ = [
    "AnnotatedImage",
    "coco_dataset",
    "convert_records",
    "label_map_to_records",
    "read_coco",
    "read_label_png",
    "read_labelme",
    "read_legend",
    "read_npz",
    "read_semantic",
    "read_yolo",
    "to_class_map",
    "to_label_map",
    "write_coco",
    "write_label_png",
    "write_labelme",
    "write_npz",
    "write_semantic",
    "write_yolo",
]
