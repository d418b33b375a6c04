"""What every figure is drawn on: one look, headless, no global state changed.

Header (title, run, legend) and footer (how to read it) have a fixed height in inches and the plot
gets the space between, so that they never meet whatever the number of sites or lines.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.report.drawing import compact

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#000000"
GREY, PALE = "#595959", "#CFE8F7"
CLASSES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, BLACK)
"""Okabe and Ito's palette, which colour-blind readers can tell apart too."""

WIDTH = 8.0
"""Inches; at 100 dots per inch the width of a README."""
LINE = 0.18
"""Height of a line of text, in inches."""
DOTS_PER_INCH = 160
"""Of a figure as PNG."""
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "legend.frameon": False,
    "savefig.dpi": DOTS_PER_INCH,
    "svg.fonttype": "none",
    "svg.hashsalt": "fedsim",
    "text.parse_math": False,  # a name may hold a dollar sign
}


@dataclass(frozen=True)
class Canvas:
    """The words around a plot.

    Args:
        title: what is shown.
        run: which run it is.
        note: how to read it.
        legend: one artist with a label for each entry.
    """

    title: str
    run: str
    note: str
    legend: Sequence[Artist] = ()

    def figure(self, height: float, width: float = WIDTH) -> Figure:
        """Return a figure with these words and room for a plot of `height` inches."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        characters = int(width * 14)
        run, note = textwrap.wrap(self.run, characters), textwrap.wrap(self.note, int(width * 16))
        columns, rows = self._legend_shape(characters)
        header = 0.4 + LINE * (len(run) + 1.2 * rows)
        footer = 0.15 + LINE * len(note)
        total = header + height + footer
        layout = ConstrainedLayoutEngine(
            rect=(0.01, footer / total, 0.98, height / total), w_pad=0.06, h_pad=0.06
        )
        figure = Figure(figsize=(width, total), layout=layout)
        FigureCanvasAgg(figure)
        left = 0.1 / width
        figure.text(left, 1 - 0.1 / total, self.title, size=11, weight="bold", va="top")
        figure.text(left, 1 - 0.34 / total, "\n".join(run), color=GREY, va="top")
        figure.text(left, 0.08 / total, "\n".join(note), size=8, color=GREY, va="bottom")
        if self.legend:
            top = 1 - (0.36 + LINE * len(run)) / total
            figure.legend(
                handles=list(self.legend),
                loc="upper left",
                bbox_to_anchor=(left, top),
                ncols=columns,
                borderpad=0,
                borderaxespad=0,
                columnspacing=1.6,
            )
        return figure

    def _legend_shape(self, characters: int) -> tuple[int, int]:
        if not self.legend:
            return 0, 0
        longest = max(len(str(artist.get_label())) for artist in self.legend)
        columns = max(1, min(len(self.legend), characters // (longest + 6)))
        return columns, -(-len(self.legend) // columns)


@contextmanager
def style() -> Iterator[None]:
    """Put the look in force, from matplotlib's defaults, and take it back afterwards."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def encode(figure: Figure, format: str) -> bytes:
    """Return `figure` as `png` or `svg`: the same bytes for the same figure, whenever made.

    A sign that the font lacks is drawn as an empty box, without a word: tables have the name.
    """
    stream = io.BytesIO()
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[format]
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not")
        _settle(figure)
        figure.savefig(stream, format=format, metadata=metadata)
    return compact(stream.getvalue()) if format == "svg" else stream.getvalue()


def _settle(figure: Figure) -> None:
    """Lay a figure out for good, at rounded places, unless that is done.

    The last bits that the layout's solver finds differ from one time to another, and SVG has names
    made from them.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # with "none" each file would draw the figure twice
    for axes in figure.axes:
        left, bottom, width, height = (round(float(x), 6) for x in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


def width_for(num_sites: int) -> float:
    """Return the width in inches at which the bars of so many sites stay apart."""
    return max(WIDTH, 0.14 * num_sites + 1)


def class_colours(num_classes: int) -> list[str]:
    """Return a colour for each class: the palette, or steps of a dark-to-light scale beyond it."""
    if num_classes <= len(CLASSES):
        return list(CLASSES[:num_classes])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["cividis"]
    return [to_hex(scale(i / (num_classes - 1))) for i in range(num_classes)]
