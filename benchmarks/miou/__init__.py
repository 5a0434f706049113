"""Accuracy of a checkpoint under published protocols: ``python -m benchmarks.miou --help``."""
