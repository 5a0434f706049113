"""Save small detectors of the real classes with random weights and tiny vocabularies."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2Processor,
    SwinConfig,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

WORDS = ("a", "an", "dog", "cat", "red", "apple", "tree", "##s")


def grounding_dino(folder: Path) -> Path:
    """Save a Grounding DINO of half a million weights."""
    return _dino(folder, GroundingDinoConfig, GroundingDinoForObjectDetection)


def mm_grounding_dino(folder: Path) -> Path:
    """Save the same as MM Grounding DINO."""
    return _dino(folder, MMGroundingDinoConfig, MMGroundingDinoForObjectDetection)


def _dino(folder: Path, configuration: type, kind: type) -> Path:
    torch.manual_seed(6)
    width = 32
    backbone = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[2, 2, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    words = _bert_vocabulary()
    text = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=width,
        max_position_embeddings=64,
    )
    config = configuration(
        backbone_config=backbone,
        text_config=text,
        num_queries=30,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=width,
        decoder_ffn_dim=width,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=width,
        max_text_len=32,
    )
    model = kind(config).eval()
    _spread(model)
    # A token's logit is its product with a query of this length.
    torch.nn.init.constant_(model.model.decoder.layer_norm.weight, 0.3)
    for name, weight in model.named_parameters():
        if "class_embed" in name:  # of MM Grounding DINO only: it starts at a probability of 0.01
            torch.nn.init.zeros_(weight)
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192}),
        BertTokenizer(vocab=words, model_max_length=64),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def owlv2(folder: Path) -> Path:
    """Save an OWLv2 of 60 thousand weights."""
    torch.manual_seed(5)
    start, end = "<|startoftext|>", "<|endoftext|>"
    # 0 marks an empty query in this family, so no word has that number.
    characters = [c + tail for c in string.ascii_lowercase + "!," for tail in ("", "</w>")]
    vocabulary = {word: i for i, word in enumerate(["!!", *characters, start, end])}
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = Owlv2Config(
        text_config={
            **sizes,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 16,
            "bos_token_id": vocabulary[start],
            "eos_token_id": vocabulary[end],
        },
        vision_config={**sizes, "image_size": 96, "patch_size": 16},
        projection_dim=32,
    )
    model = Owlv2ForObjectDetection(config).eval()
    _spread(model)
    processor = Owlv2Processor(
        Owlv2ImageProcessorPil(size={"height": 96, "width": 96}),
        CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16, pad_token="!!"),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _bert_vocabulary() -> dict[str, int]:
    """Write a vocabulary in which [CLS], [SEP], "." and "?" have BERT's ids, which models need."""
    numbers = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    numbers |= {".": 1012, "?": 1029}
    numbers |= {word: 1030 + i for i, word in enumerate(WORDS)}
    taken = set(numbers.values())
    numbers |= {f"[unused{i}]": i for i in range(max(taken) + 1) if i not in taken}
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _spread(model: torch.nn.Module) -> None:
    """Enlarge random weights, for boxes of many sizes and scores around the threshold."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed_positions" not in name:
                weight.normal_(0, 1.5 / weight.shape[-1] ** 0.5)


FAMILIES = (grounding_dino, mm_grounding_dino, owlv2)
