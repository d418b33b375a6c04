"""From figures to pictures on a page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from PIL import Image

from fedsim.report import canvas
from fedsim.report.document.parts import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 100
"""CSS pixels of the page for an inch of a figure."""
POINTS_PER_INCH = 72


def picture(figure: Figure, alt: str) -> Picture:
    """Return a figure as a part of a page.

    Args:
        figure: that is drawn.
        alt: what it shows.
    """
    return drawing(canvas.encode(figure, "svg"), alt)


def drawing(svg: bytes, alt: str) -> Picture:
    """Return an SVG that `canvas.encode` made as a part of a page."""
    width, height = (
        round(PIXELS_PER_INCH / POINTS_PER_INCH * float(points))
        for points in re.findall(rb" (?:width|height)='([\d.]+)pt'", svg.partition(b">")[0])
    )
    return Picture(svg, "svg", alt, (width, height))


def photograph(png: bytes, alt: str) -> Picture:
    """Return a PNG that matplotlib wrote as a part of a page."""
    scale = PIXELS_PER_INCH / canvas.DOTS_PER_INCH
    with Image.open(io.BytesIO(png)) as image:
        width, height = (round(scale * pixels) for pixels in image.size)
    return Picture(png, "png", alt, (width, height))
