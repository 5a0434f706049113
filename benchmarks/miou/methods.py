"""List the protocols by name."""

from __future__ import annotations

from benchmarks.miou import (
    boxes,
    edges,
    effsam,
    evit,
    fast_coco,
    gt_boxes,
    med,
    noc,
    overview,
    proposals,
    sam_point,
)
from benchmarks.miou.protocol import Method

_MODULES = (
    sam_point,
    gt_boxes,
    fast_coco,
    evit,
    effsam,
    noc,
    boxes,
    proposals,
    edges,
    med,
    overview,
)

METHODS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in _MODULES}
