"""The official SAM forward pass, written for fast training: all prompts of an image at once.

Same parameters (an official state dict), same numbers, fewer operations: windows divide the
grid without padding, the image is kept in window order, and the decoder multiplies the
projections of the image's side into the few tokens, so that the image is never projected for
each prompt. `tests/parity/test_tiny_recipe.py` holds it to the official classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812

from samjax.model.config import SamConfig

Parameters = Mapping[str, torch.Tensor]
HEADS = 8  # of the mask decoder
DECODER = "mask_decoder."
TRANSFORMER = DECODER + "transformer."


class Product(torch.autograd.Function):
    """a bᵀ of batches. torch.bmm's own gradient of b is transposed, which makes its sums slow."""

    @staticmethod
    def forward(ctx, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        return torch.bmm(a, b.transpose(1, 2))

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = ctx.saved_tensors
        return torch.bmm(gradient, b), torch.bmm(gradient.transpose(1, 2), a)


class TransposedProduct(torch.autograd.Function):
    """aᵀ b of batches, for the same reason."""

    @staticmethod
    def forward(ctx, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        return torch.bmm(a.transpose(1, 2), b)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = ctx.saved_tensors
        return torch.bmm(b, gradient.transpose(1, 2)), torch.bmm(a, gradient)


class Network:
    """Functions of (parameters, inputs) for one size. B images, p prompts each, N = B p.

    The grid is g x g with s = g² cells; low-res masks have 16 s pixels, kept in "token order":
    for each cell its 2 x 2 quarters, for each quarter its 2 x 2 pixels.
    """

    def __init__(self, config: SamConfig, dtype: torch.dtype = torch.float32):
        encoder = config.image_encoder
        self.size, self.dtype = config.image_size, dtype
        self.grid, self.window = self.size // 16, encoder.window_size
        self.width, self.heads, self.depth = encoder.width, encoder.num_heads, encoder.depth
        self.global_blocks = set(encoder.global_blocks)
        if self.grid % self.window:
            raise SystemExit(f"windows of {self.window} do not divide a grid of {self.grid} cells")
        self.offsets = {
            n: torch.arange(n)[:, None] - torch.arange(n)[None] + n - 1
            for n in (self.grid, self.window)
        }
        self.codes = {
            n: torch.cat([torch.eye(n).repeat_interleave(n, 0), torch.eye(n).repeat(n, 1)], 1)
            for n in (self.grid, self.window)
        }
        centres = (torch.arange(self.grid) + 0.5) / self.grid
        self.centres = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).reshape(
            -1, 2
        )
        raster = torch.arange(16 * self.grid**2).view(4 * self.grid, 4 * self.grid)
        self.places = self.to_token_order(raster).argsort()  # raster -> token order

    # ----------------------------------------------------------- image encoder

    def _attention(self, p: Parameters, name: str, qkv: torch.Tensor, n: int) -> torch.Tensor:
        """[M, n², 3 D] -> [M, n², D], with decomposed relative positions."""
        m, heads, cells = qkv.shape[0], self.heads, n * n
        c = self.width // heads
        q, k, v = qkv.view(m, cells, 3, heads, c).permute(2, 0, 3, 1, 4).unbind(0)
        rows = p[name + "rel_pos_h"][self.offsets[n]].transpose(1, 2)  # [n, c, n]
        cols = p[name + "rel_pos_w"][self.offsets[n]].transpose(1, 2)
        grid = q.reshape(m * heads, n, n, c)
        rel_h = torch.matmul(grid.permute(1, 0, 2, 3).reshape(n, -1, c), rows)
        rel_h = rel_h.view(n, m * heads, n, n).permute(1, 0, 2, 3)  # [Mh, y, x, key y]
        rel_w = torch.matmul(grid.permute(2, 0, 1, 3).reshape(n, -1, c), cols)
        rel_w = rel_w.view(n, m * heads, n, n).permute(1, 2, 0, 3)  # [Mh, y, x, key x]
        flat = (m * heads, cells, c)
        # One product adds all three terms: keys carry the one-hot codes of their row and column.
        queries = torch.cat(
            [q.reshape(flat) * c**-0.5] + [x.reshape(m * heads, cells, n) for x in (rel_h, rel_w)],
            -1,
        )
        codes = self.codes[n].to(k.dtype).to(k.device).expand(m * heads, -1, -1)
        scores = Product.apply(queries, torch.cat([k.reshape(flat), codes], -1))
        weights = torch.softmax(scores, -1)
        out = torch.bmm(weights, v.reshape(flat)).view(m, heads, cells, c)
        return out.transpose(1, 2).reshape(m, cells, self.width)

    def _to_raster(self, x: torch.Tensor) -> torch.Tensor:
        b, w, r = x.shape[0], self.window, self.grid // self.window
        return x.view(b, r, r, w, w, -1).transpose(2, 3).reshape(b, self.grid**2, -1)

    def _to_windows(self, x: torch.Tensor) -> torch.Tensor:
        b, w, r = x.shape[0], self.window, self.grid // self.window
        return x.view(b, r, w, r, w, -1).transpose(2, 3).reshape(b, self.grid**2, -1)

    def patches(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] -> [B, s, 768], in window order."""
        b, w, r = images.shape[0], self.window, self.grid // self.window
        x = images.reshape(b, 3, r, w, 16, r, w, 16).permute(0, 2, 5, 3, 6, 1, 4, 7)
        return x.reshape(b, self.grid**2, 768)

    def encode(
        self, p: Parameters, patches: torch.Tensor, skip: frozenset[int] = frozenset()
    ) -> torch.Tensor:
        """[B, s, 768] -> image embeddings [B, s, 256] in raster order.

        Blocks in `skip` are left out (stochastic depth).
        """
        g, w, d, b = self.grid, self.window, self.width, patches.shape[0]
        r, e = g // w, "image_encoder."
        position = self._to_windows(p[e + "pos_embed"].reshape(1, g * g, d))
        weight = p[e + "patch_embed.proj.weight"].view(d, -1)
        x = F.linear(patches, weight, p[e + "patch_embed.proj.bias"]) + position
        for i in range(self.depth):
            if i in skip:
                continue
            k = f"{e}blocks.{i}."
            y = F.layer_norm(x, (d,), p[k + "norm1.weight"], p[k + "norm1.bias"], 1e-6)
            y = F.linear(y, p[k + "attn.qkv.weight"], p[k + "attn.qkv.bias"])
            if i in self.global_blocks:
                y = self._to_windows(self._attention(p, k + "attn.", self._to_raster(y), g))
            else:
                y = self._attention(p, k + "attn.", y.view(b * r * r, w * w, 3 * d), w)
                y = y.reshape(b, g * g, d)
            x = x + F.linear(y, p[k + "attn.proj.weight"], p[k + "attn.proj.bias"])
            y = F.layer_norm(x, (d,), p[k + "norm2.weight"], p[k + "norm2.bias"], 1e-6)
            y = F.gelu(F.linear(y, p[k + "mlp.lin1.weight"], p[k + "mlp.lin1.bias"]))
            x = x + F.linear(y, p[k + "mlp.lin2.weight"], p[k + "mlp.lin2.bias"])
        n = e + "neck."
        x = F.linear(self._to_raster(x), p[n + "0.weight"].view(256, d))
        x = F.layer_norm(x, (256,), p[n + "1.weight"], p[n + "1.bias"], 1e-6).view(b, g, g, 256)
        x = F.pad(x, (0, 0, 1, 1, 1, 1))
        x = torch.cat([x[:, i : i + g, j : j + g] for i in range(3) for j in range(3)], -1)
        weight = p[n + "2.weight"].permute(0, 2, 3, 1).reshape(256, -1)
        x = F.linear(x.view(b * g * g, 9 * 256), weight)
        x = F.layer_norm(x, (256,), p[n + "3.weight"], p[n + "3.bias"], 1e-6)
        return x.view(b, g * g, 256)

    # ----------------------------------------------------------------- prompts

    def _fourier(self, p: Parameters, xy: torch.Tensor) -> torch.Tensor:
        matrix = p["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].float()
        angles = (2 * xy - 1) @ matrix * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], -1)

    def tokens(self, p: Parameters, xy: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Points [N, k, 2] in input pixels (+0.5 included), labels -1 to 3 -> [N, k, 256]."""
        e = "prompt_encoder."
        table = [p[e + "not_a_point_embed.weight"]]
        table += [p[f"{e}point_embeddings.{i}.weight"] for i in range(4)]
        position = self._fourier(p, xy / self.size) * (labels >= 0)[..., None]
        chosen = F.one_hot(labels + 1, 5).to(self.dtype)
        return position.to(self.dtype) + chosen @ torch.cat(table)

    def embed_masks(self, p: Parameters, masks: torch.Tensor) -> torch.Tensor:
        """Low-res logits [N, 16 s] in token order -> [N, s, 256]."""
        d, n, s = "prompt_encoder.mask_downscaling.", masks.shape[0], self.grid**2
        x = masks.to(self.dtype).view(n, s, 4, 4) @ p[d + "0.weight"].view(4, 4).t()
        x = x + p[d + "0.bias"]
        x = F.gelu(F.layer_norm(x, (4,), p[d + "1.weight"], p[d + "1.bias"], 1e-6))
        weight = p[d + "3.weight"].permute(0, 2, 3, 1).reshape(16, 16)
        x = x.view(n, s, 16) @ weight.t() + p[d + "3.bias"]
        x = F.gelu(F.layer_norm(x, (16,), p[d + "4.weight"], p[d + "4.bias"], 1e-6))
        return x @ p[d + "6.weight"].view(256, 16).t() + p[d + "6.bias"]

    # ----------------------------------------------------------------- decoder

    def _among_tokens(self, p, name, q, v):
        n, t, _ = q.shape

        def heads(x, which):
            x = F.linear(x, p[f"{name}{which}_proj.weight"], p[f"{name}{which}_proj.bias"])
            return x.view(n, t, HEADS, 32).transpose(1, 2)

        scores = heads(q, "q") @ heads(q, "k").transpose(-1, -2) * 32**-0.5
        out = (torch.softmax(scores, -1) @ heads(v, "v")).transpose(1, 2).reshape(n, t, 256)
        return F.linear(out, p[name + "out_proj.weight"], p[name + "out_proj.bias"])

    def _tokens_to_image(self, p, name, q, keys, values):
        """q [N, t, 256]; keys, values [M, s, 256], M = N or B. The key bias cancels in softmax."""
        n, t, _ = q.shape
        m = keys.shape[0]
        q = F.linear(q, p[name + "q_proj.weight"], p[name + "q_proj.bias"]) * 0.25
        q = q.view(n, t, HEADS, 16).permute(2, 0, 1, 3).reshape(HEADS, n * t, 16)
        q = torch.bmm(q, p[name + "k_proj.weight"].view(HEADS, 16, 256))
        q = q.view(HEADS, n, t, 256).transpose(0, 1).reshape(m, -1, 256)
        weights = torch.softmax(Product.apply(q, keys), -1)
        out = torch.bmm(weights, values).view(n, HEADS, t, 256)
        out = out.transpose(0, 1).reshape(HEADS, n * t, 256)
        out = torch.bmm(out, p[name + "v_proj.weight"].view(HEADS, 16, 256).transpose(1, 2))
        out = out.view(HEADS, n, t, 16).permute(1, 2, 0, 3).reshape(n, t, 128)
        out = out + p[name + "v_proj.bias"]
        return F.linear(out, p[name + "out_proj.weight"], p[name + "out_proj.bias"])

    def _image_to_tokens(self, p, name, image, k, v):
        """image [M, s, 256]; k, v [N, t, 256] -> [N, s, 256]."""
        n, t, _ = k.shape
        m, s, _ = image.shape
        k = F.linear(k, p[name + "k_proj.weight"], p[name + "k_proj.bias"]) * 0.25
        k = k.view(n, t, HEADS, 16)
        bias = (k * p[name + "q_proj.bias"].view(HEADS, 16)).sum(-1).transpose(1, 2)
        k = k.permute(2, 0, 1, 3).reshape(HEADS, n * t, 16)
        k = torch.bmm(k, p[name + "q_proj.weight"].view(HEADS, 16, 256))
        k = k.view(HEADS, n, t, 256).transpose(0, 1).reshape(m, -1, 256)
        scores = Product.apply(k, image).view(n, HEADS, t, s) + bias[..., None]
        weights = torch.softmax(scores, 2).view(n, HEADS * t, s)
        v = F.linear(v, p[name + "v_proj.weight"], p[name + "v_proj.bias"])
        v = v.view(n, t, HEADS, 16).permute(2, 0, 1, 3).reshape(HEADS, n * t, 16)
        v = torch.bmm(v, p[name + "out_proj.weight"].t().reshape(HEADS, 16, 256))
        v = v.view(HEADS, n, t, 256).transpose(0, 1).reshape(n, HEADS * t, 256)
        return TransposedProduct.apply(weights, v) + p[name + "out_proj.bias"]

    def _norm(self, p: Parameters, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (256,), p[name + ".weight"], p[name + ".bias"], 1e-5)

    def _head(self, p: Parameters, name: str, x: torch.Tensor) -> torch.Tensor:
        for i in range(3):
            x = F.linear(x, p[f"{name}layers.{i}.weight"], p[f"{name}layers.{i}.bias"])
            x = F.relu(x) if i < 2 else x
        return x

    def decode(
        self,
        p: Parameters,
        embedding: torch.Tensor,
        tokens: torch.Tensor,
        dense: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [B, s, 256], tokens [N, k, 256], embedded masks [N, s, 256] or None.

        Returns logits [N, 4, 16 s] in token order and predicted IoU [N, 4].
        """
        b, s, _ = embedding.shape
        n = tokens.shape[0]
        position = self._fourier(p, self.centres).to(self.dtype)
        learned = torch.cat([p[DECODER + "iou_token.weight"], p[DECODER + "mask_tokens.weight"]])
        start = torch.cat([learned.expand(n, 5, 256), tokens], 1)
        q = start
        if dense is None:
            image = embedding + p["prompt_encoder.no_mask_embed.weight"]
        else:
            image = (embedding[:, None] + dense.view(b, -1, s, 256)).view(n, s, 256)
        for i in range(2):
            k = f"{TRANSFORMER}layers.{i}."
            name = k + "self_attn."
            if i == 0:
                q = self._among_tokens(p, name, q, q)
            else:
                q = q + self._among_tokens(p, name, q + start, q)
            q = self._norm(p, k + "norm1", q)
            placed = image + position
            name = k + "cross_attn_token_to_image."
            q = self._norm(
                p, k + "norm2", q + self._tokens_to_image(p, name, q + start, placed, image)
            )
            y = F.relu(F.linear(q, p[k + "mlp.lin1.weight"], p[k + "mlp.lin1.bias"]))
            y = F.linear(y, p[k + "mlp.lin2.weight"], p[k + "mlp.lin2.bias"])
            q = self._norm(p, k + "norm3", q + y)
            update = self._image_to_tokens(
                p, k + "cross_attn_image_to_token.", placed, q + start, q
            )
            if image.shape[0] != n:
                image = (image[:, None] + update.view(b, -1, s, 256)).view(n, s, 256)
            else:
                image = image + update
            image = self._norm(p, k + "norm4", image)
        name = TRANSFORMER + "final_attn_token_to_image."
        q = q + self._tokens_to_image(p, name, q + start, image + position, image)
        q = self._norm(p, TRANSFORMER + "norm_final_attn", q)
        u = DECODER + "output_upscaling."
        weight = p[u + "0.weight"].permute(2, 3, 1, 0).reshape(256, 256)
        x = F.linear(image, weight, p[u + "0.bias"].repeat(4)).view(n, s * 4, 64)
        x = F.gelu(F.layer_norm(x, (64,), p[u + "1.weight"], p[u + "1.bias"], 1e-6))
        weight = p[u + "3.weight"].permute(2, 3, 1, 0).reshape(128, 64)
        x = F.gelu(F.linear(x, weight, p[u + "3.bias"].repeat(4))).view(n, s * 16, 32)
        names = [f"{DECODER}output_hypernetworks_mlps.{i}." for i in range(4)]
        filters = torch.stack([self._head(p, m, q[:, 1 + i]) for i, m in enumerate(names)], 1)
        logits = torch.bmm(filters, x.transpose(1, 2))
        return logits, self._head(p, DECODER + "iou_prediction_head.", q[:, 0])

    # ------------------------------------------------------------- token order

    def to_token_order(self, masks: torch.Tensor) -> torch.Tensor:
        """[..., 4 g, 4 g] -> [..., 16 s]."""
        g, lead = self.grid, masks.shape[:-2]
        k = len(lead)
        x = masks.reshape(*lead, g, 2, 2, g, 2, 2)
        return x.permute(*range(k), k, k + 3, k + 1, k + 4, k + 2, k + 5).reshape(*lead, -1)

    def from_token_order(self, masks: torch.Tensor) -> torch.Tensor:
        """[..., 16 s] -> [..., 4 g, 4 g]."""
        g, lead = self.grid, masks.shape[:-1]
        k = len(lead)
        x = masks.reshape(*lead, g, g, 2, 2, 2, 2)
        x = x.permute(*range(k), k, k + 2, k + 4, k + 1, k + 3, k + 5)
        return x.reshape(*lead, 4 * g, 4 * g)
