"""Compare the speed of SAM implementations; see ``python -m benchmarks.speed --help``."""
