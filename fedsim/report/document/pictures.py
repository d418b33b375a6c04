"""From figures to pictures on a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from fedsim.report import canvas
from fedsim.report.document.parts import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 100
"""CSS pixels of the page for an inch of a figure."""


def picture(figure: Figure, alt: str, svg: bytes | None = None) -> Picture:
    """Return a figure as a part of a page.

    Args:
        figure: that is drawn.
        alt: what it shows.
        svg: its drawing, if that was made already.
    """
    drawing = canvas.encode(figure, "svg") if svg is None else svg
    width, height = (round(PIXELS_PER_INCH * float(x)) for x in figure.get_size_inches())
    return Picture(drawing, "svg", alt, (width, height))


def photograph(png: bytes, alt: str) -> Picture:
    """Return a PNG that matplotlib wrote as a part of a page."""
    scale = PIXELS_PER_INCH / canvas.DOTS_PER_INCH
    with Image.open(io.BytesIO(png)) as image:
        width, height = (round(scale * pixels) for pixels in image.size)
    return Picture(png, "png", alt, (width, height))
