"""Speed of samjax beside other implementations of SAM; ``python -m benchmarks.speed --help``."""
