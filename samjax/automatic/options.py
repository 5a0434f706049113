"""Options of automatic masks, declared once: for the class, the command line and the run record.

Nothing heavy is imported here: ``samjax automask --help`` reads it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from samjax.arguments import real_number, whole_number
from samjax.checkpoint.thresholds import AutomaticThresholds
from samjax.errors import PromptError

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")
MOST_LAYERS = 6  # of crops: 5461 of them

_Self = TypeVar("_Self")
_Model = TypeVar("_Model")
_P = ParamSpec("_P")


def _option(default: Any, text: str, **limits: Any) -> Any:
    """Declare an option that the command line has, too, with its help and its limits."""
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True)
class AutomaticOptions:
    """The options of SamAutomaticMaskGenerator: first the official ones, in their order.

    Attributes:
        points_per_side: the grid has its square of points; None: give ``point_grids``.
        points_per_batch: points decoded at once; it decides about memory, not about results.
        pred_iou_thresh: masks with a predicted IoU above it stay; None: the threshold that the
            checkpoint records, else the official 0.88.
        stability_score_thresh: masks stay whose binary masks at threshold plus and minus
            ``stability_score_offset`` have at least this IoU; None: as above, officially 0.95.
        stability_score_offset: logits above and below the mask threshold, see there.
        box_nms_thresh: NMS within a crop: above this box IoU the lower-scoring mask is dropped.
        crop_n_layers: layer i adds (2 ** i) ** 2 crops of the image.
        crop_nms_thresh: NMS between crops: above this box IoU the mask of the smaller crop stays.
        crop_overlap_ratio: overlap of the crops, as a part of the image's short side.
        crop_n_points_downscale_factor: the grid of layer i has 1 / factor ** i points a side.
        point_grids: N x 2 points (x, y) in the unit square for each layer, instead of the side.
        min_mask_region_area: holes and islands of fewer pixels are filled and removed. It does
            not remove small masks: that is ``min_area``.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".
        min_area: masks of fewer pixels are left out.
        max_area: masks of more pixels are left out; None: no limit.
        containment_thresh: of two masks of which one has at least this part inside the other,
            the lower-scoring one is dropped; None: nested masks stay.
        tile_size: side in pixels of tiles that replace the whole image; for images much larger
            than the network's input.
        tile_halo: pixels that a tile sees beyond its edges.
    """

    points_per_side: int | None = _option(32, "The grid of clicks has N x N points.", min=1)
    points_per_batch: int = _option(
        64, "Clicks decoded at once: decides about memory, not about results.", min=1
    )
    pred_iou_thresh: float | None = _option(
        None, "Least predicted IoU of a mask.", min=0, max=1, none="the model's own; official 0.88"
    )
    stability_score_thresh: float | None = _option(
        None, "Least stability of a mask.", min=0, max=1, none="the model's own; official 0.95"
    )
    stability_score_offset: float = _option(
        1.0, "Stability compares masks at thresholds this far above and below."
    )
    box_nms_thresh: float = _option(
        0.7, "Of masks whose boxes have a higher IoU the lower-scoring is dropped.", min=0, max=1
    )
    crop_n_layers: int = _option(0, "Also look at 4, 16, ... crops, for small things.", min=0)
    crop_nms_thresh: float = _option(
        0.7, "The same between crops: the mask of the smaller crop stays.", min=0, max=1
    )
    crop_overlap_ratio: float = _option(
        512 / 1500, "Overlap of crops, as a part of the image's short side.", min=0, max=1
    )
    crop_n_points_downscale_factor: int = _option(
        1, "The grid of layer i of crops has N ** i times fewer points a side.", min=1
    )
    point_grids: Sequence[Any] | None = None
    min_mask_region_area: int = _option(0, "Fill smaller holes, drop smaller islands.", min=0)
    output_mode: str = "binary_mask"
    min_area: int = field(
        default=0, kw_only=True, metadata={"help": "Leave out smaller masks.", "min": 0}
    )
    max_area: int | None = field(
        default=None,
        kw_only=True,
        metadata={"help": "Leave out larger masks.", "min": 1, "none": "no limit"},
    )
    containment_thresh: float | None = field(
        default=None,
        kw_only=True,
        metadata={
            "help": "Of nested masks that overlap by this part the lower-scoring is dropped.",
            "min": 0,
            "max": 1,
            "none": "nested masks stay",
        },
    )
    tile_size: int | None = field(
        default=None,
        kw_only=True,
        metadata={
            "help": "Look at tiles of this size: for very large images.",
            "min": 1,
            "none": "whole images",
        },
    )
    tile_halo: int = field(
        default=64, kw_only=True, metadata={"help": "What tiles see beyond their edges.", "min": 0}
    )

    def __post_init__(self) -> None:
        """Refuse options that do not fit together.

        Raises:
            PromptError: the options and what to give instead.
        """
        if (self.points_per_side is None) == (self.point_grids is None):
            raise PromptError("give either points_per_side or point_grids, and None for the other")
        for f in fields(self):
            self._check_type(f)
        for name in ("points_per_side", "points_per_batch", "crop_n_points_downscale_factor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PromptError(f"{name} is {value}: at least 1")
        if not 0 <= self.crop_n_layers <= MOST_LAYERS:
            crops = "" if self.crop_n_layers < 0 else ": layer i has (2 ** i) ** 2 crops"
            raise PromptError(
                f"crop_n_layers is {self.crop_n_layers}: from 0 to {MOST_LAYERS}{crops}"
            )
        for f in fields(self):
            value = getattr(self, f.name)
            # Somewhat above 1 is how official scripts switch a threshold off.
            if f.metadata.get("max") == 1 and value is not None and not value <= 2:
                percent = f": for {value:g} % pass {value / 100:g}" if 2 < value <= 100 else ""
                raise PromptError(f"{f.name} is {value}: pass a part from 0 to 1{percent}")
        if self.output_mode not in OUTPUT_MODES:
            raise PromptError(
                f"output_mode {self.output_mode!r}: use binary_mask, uncompressed_rle or coco_rle"
            )
        if self.tile_size is not None and self.crop_n_layers:
            raise PromptError("tile_size and crop_n_layers do not go together: use one of them")
        if self.tile_size is not None and (self.tile_size < 1 or self.tile_halo < 0):
            raise PromptError(
                f"tile_size {self.tile_size} with tile_halo {self.tile_halo}: tiles need a "
                "positive size and a halo of 0 or more"
            )

    def _check_type(self, option: Field[Any]) -> None:
        """Refuse a value that is no number where the option is one; NumPy's become Python's."""
        value, kind = getattr(self, option.name), str(option.type)
        if value is None and "None" in kind:
            return
        if kind.startswith("int"):
            object.__setattr__(self, option.name, whole_number(value, option.name, most=2**31))
        elif kind.startswith("float"):
            object.__setattr__(self, option.name, real_number(value, option.name))

    def resolved(self, thresholds: AutomaticThresholds) -> AutomaticOptions:
        """Return the options with a model's own thresholds where none are given."""
        predicted, stable = self.pred_iou_thresh, self.stability_score_thresh
        return replace(
            self,
            pred_iou_thresh=thresholds.pred_iou_thresh if predicted is None else predicted,
            stability_score_thresh=thresholds.stability_score_thresh if stable is None else stable,
        )

    @property
    def thresholds(self) -> tuple[float, float]:
        """Return least predicted IoU and stability; of options that are resolved."""
        predicted, stable = self.pred_iou_thresh, self.stability_score_thresh
        if predicted is None or stable is None:
            raise ValueError("the thresholds are the model's: call resolved() first")
        return predicted, stable

    def as_record(self) -> dict[str, Any]:
        """Return the options that decide about the masks, as plain JSON values."""
        names = [f.name for f in fields(self) if f.metadata and f.name != "points_per_batch"]
        return {name: getattr(self, name) for name in names}


def takes_options(
    options: Callable[_P, AutomaticOptions],
) -> Callable[
    [Callable[[_Self, _Model, AutomaticOptions], None]],
    Callable[Concatenate[_Self, _Model, _P], None],
]:
    """Let an ``__init__(self, model, options)`` take each option as an argument of its own.

    Editors, type checkers and ``help`` show the options with their defaults.
    """

    def decorate(
        init: Callable[[_Self, _Model, AutomaticOptions], None],
    ) -> Callable[Concatenate[_Self, _Model, _P], None]:
        @functools.wraps(init)
        def with_options(self: _Self, model: _Model, *args: _P.args, **kwargs: _P.kwargs) -> None:
            init(self, model, options(*args, **kwargs))

        first = list(inspect.signature(init).parameters.values())[:2]
        rest = inspect.signature(options).parameters.values()
        vars(with_options)["__signature__"] = inspect.Signature([*first, *rest])
        return with_options  # type: ignore[return-value]  # wraps keeps the names self and model

    return decorate
