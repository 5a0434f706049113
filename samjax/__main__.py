"""``python -m samjax``: the command line."""

from samjax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
