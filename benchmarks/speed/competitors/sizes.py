"""Define sizes that several competitors share, without importing JAX or torch."""

from __future__ import annotations

from typing import Any

from samjax.model.config import ImageEncoderConfig, SamConfig

PRODUCT = (4096, 768, 3072)  # m, k, n: the first layer of ViT-B's MLP on all its tokens
PRODUCT_FLOPS = 2.0 * PRODUCT[0] * PRODUCT[1] * PRODUCT[2]


def hugging_face_sizes(config: SamConfig) -> dict[str, dict[str, Any]]:
    """Convert a model's sizes to arguments of transformers' SamConfig and SamHQConfig."""
    e, p, d = config.image_encoder, config.prompt_encoder, config.mask_decoder
    assert isinstance(e, ImageEncoderConfig)
    return {
        "vision_config": {
            "hidden_size": e.width,
            "output_channels": e.out_dim,
            "num_hidden_layers": e.depth,
            "num_attention_heads": e.num_heads,
            "image_size": e.image_size,
            "patch_size": e.patch_size,
            "window_size": e.window_size,
            "global_attn_indexes": list(e.global_blocks),
            "mlp_dim": e.mlp_dim,
            "num_pos_feats": p.embed_dim // 2,
        },
        "prompt_encoder_config": {
            "hidden_size": p.embed_dim,
            "image_size": e.image_size,
            "patch_size": e.patch_size,
            "mask_input_channels": p.mask_channels,
        },
        "mask_decoder_config": {
            "hidden_size": d.embed_dim,
            "mlp_dim": d.mlp_dim,
            "num_hidden_layers": d.depth,
            "num_attention_heads": d.num_heads,
            "num_multimask_outputs": d.num_masks,
            "iou_head_depth": d.iou_head_depth,
            "iou_head_hidden_dim": d.iou_head_dim,
        },
    }
