"""Numbers in sentences."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return the number with its noun in the right form: "1 mask", "3 masks"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
