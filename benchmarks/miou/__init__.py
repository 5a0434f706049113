"""Measure a checkpoint under published protocols; see ``python -m benchmarks.miou --help``."""
