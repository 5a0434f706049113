"""Define the colours of masks, prompts and text that pictures, label maps and the widget share."""

from __future__ import annotations

Colour = tuple[int, int, int]  # RGB, 0..255

# Neighbours in the list differ in hue and in lightness. Green and red are reserved for the points.
PALETTE: tuple[Colour, ...] = (
    (30, 144, 255),
    (255, 159, 28),
    (199, 87, 255),
    (0, 201, 177),
    (255, 99, 164),
    (255, 221, 51),
    (92, 104, 255),
    (158, 217, 70),
    (255, 128, 92),
    (94, 214, 255),
    (178, 118, 62),
    (224, 150, 255),
)
POSITIVE: Colour = (22, 163, 74)
NEGATIVE: Colour = (220, 38, 38)
BOX: Colour = (255, 255, 255)
WHITE: Colour = (255, 255, 255)
DARK: Colour = (17, 24, 39)  # text, shadows and outlines behind light colours


def css(colour: Colour) -> str:
    """Format a colour as ``#rrggbb``, for CSS and matplotlib."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
