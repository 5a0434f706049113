"""Compile for cards that are not here; ``python -m benchmarks.gpu_compile --help``."""

from benchmarks.gpu_compile.cli import command

command()
