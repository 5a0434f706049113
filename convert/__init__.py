"""Command-line recipes around checkpoints; unlike samjax itself they may import torch."""
