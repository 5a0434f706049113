"""Steps of the parameters: Muon's for the matrices of products, AdamW's for everything else.

Every process takes its share of both on vectors that the processes hold in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

BETAS = (0.9, 0.98)
SMALLEST = 32  # rows or columns: a smaller matrix has nothing to make orthogonal
TABLES = (  # of positions, prompts and tokens, which multiply nothing; and the teacher's map
    *("pos_embed", "rel_pos", "point_embed", "no_mask_embed", "iou_token", "mask_tokens"),
    "teacher",
)
Shape = tuple[int, ...]


def decays(name: str, shape: Shape) -> bool:
    """Whether weight decay applies: the weights of products, but no tables and no biases."""
    return len(shape) > 1 and not any(word in name for word in TABLES)


def matrices(name: str, shape: Shape) -> list[tuple[int, int]]:
    """The matrices [rows, columns] that a parameter has one below the other; [] is AdamW's.

    AdamW's are tables, biases, the patches' product, which sees pixels, and small products.
    """
    if not decays(name, shape) or "patch_embed" in name:
        return []
    rows, columns = shape[0], math.prod(shape[1:])
    if min(rows, columns) < SMALLEST:
        return []
    return [(rows // 3, columns)] * 3 if "qkv" in name else [(rows, columns)]


def layout_of(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Order parameters in one vector, the matrices first."""
    return dict(sorted(shapes.items(), key=lambda entry: not matrices(*entry)))


class Optimiser:
    """One process's share of every step; its state is in the shared vectors.

    Args:
        shared: "layout" (of ``layout_of``), "gradient" [processes, n], and the vectors [n]
            "master", "weights", "average", "first" and "second".
        rank: this process's number, of ``processes``.
    """

    def __init__(self, shared: dict, rank: int, processes: int, weight_decay: float):
        self.shared = shared
        parts, place, decay = [], 0, []
        for name, shape in shared["layout"].items():
            for rows, columns in matrices(name, shape):
                parts.append((rows * columns * min(rows, columns), place, (rows, columns)))
                place += rows * columns
            if not matrices(name, shape):
                decay.append(torch.full((math.prod(shape),), float(decays(name, shape))))
        rest, work, mine = torch.cat(decay), [0] * processes, []
        for cost, start, shape in sorted(parts, reverse=True):  # whoever has least takes the next
            chosen = work.index(min(work))
            work[chosen] += cost
            if chosen == rank:
                mine.append((slice(start, start + math.prod(shape)), shape))
        first, last = (len(rest) * (rank + i) // processes for i in (0, 1))
        self.rest = slice(place + first, place + last)
        self.decay = rest[first:last].to(shared["master"].device) * weight_decay
        self.matrices = [(part, self._view("master", part, shape)) for part, shape in mine]
        self.muon = torch.optim.Muon(
            [matrix for _, matrix in self.matrices],
            1.0,
            weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        for part, matrix in self.matrices:
            momentum = self._view("first", part, matrix.shape)
            self.muon.state[matrix]["momentum_buffer"] = momentum

    def _view(self, name: str, part: slice, shape: Shape) -> torch.Tensor:
        return self.shared[name][part].view(shape)

    def average(self) -> torch.Tensor:
        """Average the processes' gradients of this share; returns the sum of their squares."""
        gradient = self.shared["gradient"]
        self.gradient = gradient[:, self.rest].float().mean(0)
        squares = self.gradient.square().sum()
        for part, matrix in self.matrices:
            matrix.grad = gradient[:, part].float().mean(0).view(matrix.shape)
            squares += matrix.grad.square().sum()
        return squares

    def step(self, number: int, rate: float, norm: float, memory: float) -> None:
        """Take step ``number``, from 1 on, with gradients clipped to a norm of 1.

        Args:
            rate: the learning rate; Muon's is matched to the size of AdamW's steps.
            norm: of the whole gradient.
            memory: of the averaged weights.
        """
        shared, clip = self.shared, min(1.0, 1 / (norm + 1e-6))
        for _, matrix in self.matrices:
            matrix.grad *= clip
        self.muon.param_groups[0]["lr"] = rate
        self.muon.step()
        gradient = self.gradient * clip
        master, first, second = (shared[k][self.rest] for k in ("master", "first", "second"))
        first.lerp_(gradient, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        size = (second / (1 - BETAS[1] ** number)).sqrt_().add_(1e-8)
        master.mul_(1 - rate * self.decay)
        master.addcdiv_(first / (1 - BETAS[0] ** number), size, value=-rate)
        memory = min(memory, (1 + number) / (10 + number))
        for part in (self.rest, *(part for part, _ in self.matrices)):
            shared["average"][part].lerp_(shared["master"][part], 1 - memory)
            shared["weights"][part] = shared["master"][part]
