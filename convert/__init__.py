"""Provide commands around checkpoints; unlike samjax itself they may import torch."""
