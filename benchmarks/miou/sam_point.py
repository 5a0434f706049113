"""Measure 1, 2, 3, 5 and 9 clicks (``sam-point``; SAM paper, section 7.1, appendix D.1)."""

from __future__ import annotations

import numpy as np

from benchmarks.miou.clicking import Rules, Session
from benchmarks.miou.metrics import iou
from benchmarks.miou.protocol import (
    Case,
    Method,
    Options,
    Predictor,
    Published,
    Row,
    chunks,
    encode_mask,
    row,
)

CLICKS = (1, 2, 3, 5, 9)
RULES = Rules(clicker="sam", feed_back=True, three_always=False)


def measure(predictor: Predictor, case: Case, _: Options) -> list[Row]:
    """Measure the IoU of the most confident mask after CLICKS, and of the best after one click."""
    predictor.set_image(case.image)
    rows = []
    for targets in chunks(case):
        session = Session(predictor, targets, RULES)
        values: list[dict[str, float]] = [{} for _ in targets]
        firsts: list[np.ndarray] = []
        for count in range(1, max(CLICKS) + 1):
            session.step()
            if count == 1:
                firsts = list(session.chosen)
            for i, target in enumerate(targets):
                if count == 1:
                    candidates = session.candidates[i]
                    values[i]["oracle_1"] = max(
                        iou(m, target.mask, target.ignore) for m in candidates
                    )
                if count in CLICKS:
                    chosen = session.chosen[i]
                    values[i][f"clicks_{count}"] = iou(chosen, target.mask, target.ignore)
        for i, target in enumerate(targets):
            prompt = {"points": session.clicks[i][:1]}
            rows.append(row(target, values[i], prompt=prompt, rle=encode_mask(firsts[i])))
    return rows


_SAM2 = "SAM 2 paper (arXiv 2408.00714), table 15: mean over the 23 data sets of the SAM paper"

NOTES = """\
- First click: the pixel farthest from the mask's edge. Next clicks: the pixel farthest from the
  edge of the error region, missing and superfluous pixels together. The image's rim is an edge.
- One click: the most confident of three masks, or the best of three. Later clicks: the single
  mask, all clicks so far and the low-res logits of the mask before as prompts.
- Mean per mask. Crowds take no part."""

METHOD = Method(
    name="sam-point",
    about="1, 2, 3, 5 and 9 simulated clicks (SAM paper, section 7.1 and appendix D.1)",
    measure=measure,
    columns={
        "clicks_1": "1 click",
        "oracle_1": "1 click, best of three",
        **{f"clicks_{n}": f"{n} clicks" for n in CLICKS[1:]},
    },
    main="clicks_1",
    published=(
        Published("SAM ViT-B", "SA-23", {"clicks_1": 0.559, "clicks_5": 0.809}, _SAM2),
        Published("SAM ViT-H", "SA-23", {"clicks_1": 0.581, "clicks_5": 0.813}, _SAM2),
    ),
    notes=NOTES,
)
