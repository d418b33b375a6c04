"""In a real browser a compact drawing looks as the one of matplotlib that it is made from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fedsim.report import canvas, figures

pytestmark = pytest.mark.slow


def seen(svg: bytes, file: Path, browser: Any) -> NDArray[np.int16]:
    """Return what a browser shows of a drawing: (row, column, colour)."""
    file.write_bytes(svg)
    browser.open(file, width=1000, height=900)
    browser.screenshot(file.with_suffix(".png"))
    with Image.open(file.with_suffix(".png")) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


def share_that_differs(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Return the share of pixels whose colours a reader could tell apart."""
    return float((np.abs(one - other).max(axis=-1) > 48).mean())


def test_compact_drawings_look_as_they_did(
    make_whole_record: Any, tmp_path: Path, browser: Any
) -> None:
    drawn = figures.draw(make_whole_record(tmp_path, virtual=True, sites=4))
    assert len(drawn) > 6
    compact = {}
    for name, figure in drawn.items():
        stream = io.BytesIO()
        svg = canvas.encode(figure, "svg")
        with canvas.style():
            figure.savefig(stream, format="svg")
        assert len(svg) < 0.6 * len(stream.getvalue())
        compact[name] = seen(svg, tmp_path / f"{name}.svg", browser)
        whole = seen(stream.getvalue(), tmp_path / f"whole_{name}.svg", browser)
        assert share_that_differs(compact[name], whole) < 0.0002, name
    by_round, by_time = compact["learning_curves"], compact["learning_curves_virtual_time"]
    assert share_that_differs(by_round, by_time) > 0.001  # and would notice
