"""Losses and simulated corrections (SAM paper, appendix A, with cross-entropy for focal loss)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks.miou.clickers import centre_click
from convert.tiny.network import Network, Parameters

# Of the cross-entropy beside dice. Cross-entropy alone would draw the outline where half of the
# answers are right, which is too tight for IoU wherever the network is unsure.
ENTROPY = 0.3
DEEP = 0.65  # share of the correcting clicks that are deepest inside the wrong region
# Of the mask of three that scores highest, which is the one shown: the best of three alone is
# taught what a click may mean, not what it means most often.
CONFIDENT = 0.2
QUALITY = 2.0  # of the predicted IoU's squared error beside the mask losses


def mask_loss(
    logits: torch.Tensor,
    scores: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    balance: float,
    single: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy + dice, squared error of the score.

    The single mask learns, the best of three, and, less, the most confident of three.

    Args:
        logits: [N, 4, k], k pixels. scores: [N, 4], predicted IoU.
        target: [N, k], share of the pixel that is covered: soft, so that the interpolated
            logits cross zero where the outline runs.
        valid: [N, k], 0 in the padding.
        balance: exponent of the positive pixels' weight; above 0 only early, where plain
            cross-entropy would settle for empty masks.
        single: weight of the single mask's loss; that of the three is 2 - single.

    Returns:
        The loss, and the true IoU [N, 4].
    """
    soft, inside = target[:, None], valid[:, None]
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, soft.expand_as(logits), reduction="none")
    if balance > 0:
        positive = target.sum(1, keepdim=True)
        ratio = (valid.sum(1, keepdim=True) - positive) / positive.clamp(min=1)
        entropy = entropy * (1 + (ratio.clamp(1, 60) ** balance - 1)[:, None] * soft)
    entropy = (entropy * inside).sum(2) / inside.sum(2)
    covered = probability * inside
    overlap = 2 * (covered * soft).sum(2) + 1
    dice = 1 - overlap / (covered.square().sum(2) + soft.square().sum(2) + 1)
    loss = ENTROPY * entropy + dice
    with torch.no_grad():
        binary, hard = (logits > 0) * inside, (soft > 0.5).float()
        shared = (binary * hard).sum(2)
        iou = shared / (binary.sum(2) + hard.sum(2) - shared).clamp(min=1)
    candidates = loss[:, 1:]
    shown = candidates.gather(1, scores[:, 1:].argmax(1, keepdim=True))[:, 0]
    three = candidates.min(1).values + CONFIDENT * shown + 0.05 * candidates.mean(1)
    masks = single * loss[:, 0] + (2 - single) * three
    return masks.mean() + QUALITY * (scores - iou).square().mean(), iou


def click_loss(
    network: Network, logits: torch.Tensor, xy: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of every candidate mask at the clicked pixels, which is what a click asks for.

    Args:
        logits: [N, 4, k] in token order. xy: [N, c, 2] input pixels. labels: [N, c]; boxes'
            corners (2, 3) and padding (-1) take no part.

    Returns:
        The loss, and the share of candidates at clicks that are on the asked side.
    """
    clicks = (labels == 0) | (labels == 1)
    cells = (xy / 4).long().clamp(0, 4 * network.grid - 1)
    index = network.places.to(xy.device)[cells[..., 1] * (4 * network.grid) + cells[..., 0]]
    found = logits.gather(2, index[:, None].expand(-1, logits.shape[1], -1))  # [N, 4, c]
    signed = found * (2 * labels.clamp(0, 1) - 1)[:, None]
    weight = clicks[:, None].float().expand_as(signed)
    count = weight.sum().clamp(min=1)
    obeyed = ((signed.detach() > 0) * weight).sum() / count
    return (F.softplus(-signed) * weight).sum() / count, obeyed


def match_loss(mapped: torch.Tensor, wanted: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of features [B, s, c] at known cells, [B, s] of 1 or 0."""
    return ((mapped - wanted).square().mean(-1) * known).sum() / known.sum()


def most_confident(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The mask of three with the highest score: [N, 4, k], [N, 4] -> [N, k]."""
    return logits[torch.arange(len(logits)), scores[:, 1:].argmax(1) + 1]


def correcting_clicks(
    network: Network, previous: torch.Tensor, target: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Click in what is wrong: the share DEEP of them as the SAM paper measures, others anywhere.

    Args:
        previous: [N, k] logits. target: [N, k]. valid: [N, k]; all in token order.

    Returns:
        Points [N, 1, 2] in input pixels and labels [N, 1].
    """
    side = 4 * network.grid
    truth = network.from_token_order(target) > 0.5
    answer = network.from_token_order(previous) > 0
    wrong = (answer != truth) & (network.from_token_order(valid) > 0)
    # At least half of the clicks anywhere take something away, where there is something to take.
    surplus = wrong & answer
    negative = surplus.flatten(1).any(1) & (torch.rand(len(wrong), device=wrong.device) < 1 / 2)
    some = torch.where(negative[:, None, None], surplus, wrong)
    chance = torch.rand(wrong.shape, device=wrong.device)
    # Where nothing is wrong the click confirms the object.
    anywhere = (some * chance + 1e-4 * truth * chance).flatten(1).argmax(1)
    deep = wrong.flatten(1).any(1) & (torch.rand(len(wrong), device=wrong.device) < DEEP)
    middles = [c.y * side + c.x for c in map(centre_click, wrong.cpu().numpy())]
    chosen = torch.where(deep, torch.tensor(middles, device=wrong.device), anywhere)
    xy = torch.stack([chosen % side, chosen // side], -1) * 4.0 + 2.0
    labels = truth.flatten(1)[torch.arange(len(chosen)), chosen].long()
    return xy[:, None], labels[:, None]


@torch.no_grad()
def simulate_corrections(
    network: Network,
    p: Parameters,
    embedding: torch.Tensor,
    first: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    target: torch.Tensor,
    valid: torch.Tensor,
    rounds: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Play `rounds` correcting clicks; only the last answer, which the caller asks for, is learnt.

    Args:
        first: (points [N, 2, 2], labels [N, 2], logits [N, k]) of the first prompt.

    Returns:
        Points, labels and the previous logits for the last answer.
    """
    xy, labels, previous = first
    for i in range(rounds):
        click, label = correcting_clicks(network, previous, target, valid)
        xy, labels = torch.cat([xy, click], 1), torch.cat([labels, label], 1)
        if i < rounds - 1:
            tokens = network.tokens(p, xy, labels)
            dense = network.embed_masks(p, previous)
            logits, scores = network.decode(p, embedding, tokens, dense)
            # From the second click on the single mask is what the predictor is asked for.
            single = torch.rand(len(logits), 1, device=logits.device) < 0.9
            previous = torch.where(single, logits[:, 0], most_confident(logits, scores)).float()
    return xy, labels, previous


def summarise(iou: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Mean IoU of clicks and boxes: single mask, most confident of three, best of three."""
    chosen = iou[torch.arange(len(iou)), scores[:, 1:].argmax(1) + 1]
    best, boxes = iou[:, 1:].max(1).values, labels[:, 0] == 2
    found = {
        "click": chosen[~boxes],
        "click_oracle": best[~boxes],
        "box_single": iou[boxes, 0],
        "box": chosen[boxes],
        "box_oracle": best[boxes],
    }
    return {k: round(float(v.mean()), 4) for k, v in found.items() if len(v)}
