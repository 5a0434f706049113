"""Losses and simulated corrections (SAM paper, appendix A; focal loss left out, see the card)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from convert.tiny.network import Network, Parameters


def mask_loss(
    logits: torch.Tensor,
    scores: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    balance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy + dice for the single mask and the best of three; squared error of the score.

    Args:
        logits: [N, 4, k], k pixels. scores: [N, 4], predicted IoU.
        target: [N, k], share of the pixel that is covered: soft, so that the interpolated
            logits cross zero where the outline runs.
        valid: [N, k], 0 in the padding.
        balance: exponent of the positive pixels' weight; above 0 only early, where plain
            cross-entropy would settle for empty masks.

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
    loss = entropy + dice
    with torch.no_grad():
        binary, hard = (logits > 0) * inside, (soft > 0.5).float()
        shared = (binary * hard).sum(2)
        iou = shared / (binary.sum(2) + hard.sum(2) - shared).clamp(min=1)
    masks = loss[:, 0] + loss[:, 1:].min(1).values + 0.05 * loss[:, 1:].mean(1)
    return masks.mean() + (scores - iou).square().mean(), iou


def most_confident(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The mask of three with the highest score: [N, 4, k], [N, 4] -> [N, k]."""
    return logits[torch.arange(len(logits)), scores[:, 1:].argmax(1) + 1]


def correcting_clicks(
    network: Network, previous: torch.Tensor, target: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A click in what is wrong: half of them at random, half deep inside the wrong region.

    Args:
        previous: [N, k] logits. target: [N, k]. valid: [N, k]; all in token order.

    Returns:
        Points [N, 1, 2] in input pixels and labels [N, 1].
    """
    side = 4 * network.grid
    truth = network.from_token_order(target) > 0.5
    wrong = ((network.from_token_order(previous) > 0) != truth).float()
    wrong = wrong * network.from_token_order(valid)
    depth = wrong[:, None]
    for _ in range(3):
        depth = F.avg_pool2d(depth, 5, 1, 2)
    chance = torch.rand(wrong.shape)
    deep = torch.rand(len(wrong), 1, 1) < 0.5
    # Where nothing is wrong the click confirms the object.
    rank = wrong * torch.where(deep, depth[:, 0] + 0.05 * chance, chance) + 1e-4 * truth * chance
    chosen = rank.flatten(1).argmax(1)
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
            previous = most_confident(logits.float(), scores)
    return xy, labels, previous
