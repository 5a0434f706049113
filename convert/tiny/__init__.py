"""The recipe of the embedded checkpoint: a small SAM trained on a CPU (see MODEL_CARD.md)."""
