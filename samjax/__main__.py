"""Run the command line as ``python -m samjax``."""

from samjax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
