"""A compact drawing says and shows what matplotlib's does, in a fraction of the bytes."""

from __future__ import annotations

import base64
import io
import re
import warnings
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fedsim.report import canvas
from fedsim.report.document.pictures import picture
from fedsim.report.drawing import compact

SVG = "{http://www.w3.org/2000/svg}"
WORDS = [
    "\"><b>'&amp;'</b>",
    'site\'s own, "so called"',
    "Größe ↑",
    "  two  spaces",
    "100 % #1",
    " width='9pt'",
]


def drawn(figure: Figure) -> bytes:
    """Return the figure as matplotlib writes it."""
    stream = io.BytesIO()
    with canvas.style():
        figure.savefig(stream, format="svg")
    return stream.getvalue()


def of(svg: bytes, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{tag}"))


@pytest.fixture
def figure() -> Any:
    """Return lines with markers, bars with hatches, a band, and turned, coloured words."""
    with canvas.style():
        figure = Figure((6, 4))
        left, right = figure.subplots(1, 2)
        along = np.linspace(0, 9, 40)
        left.plot(along, np.sin(along), "o-", color=canvas.BLUE, markevery=5)
        left.plot(along, np.cos(along), "s--", color=canvas.VERMILLION, mfc="white")
        left.fill_between(along, along / 9 - 1, along / 9, color=canvas.GREEN, alpha=0.2, lw=0)
        right.bar(range(3), [1, 2, 3], hatch="////", color="none", edgecolor=canvas.GREY)
        for place, word in enumerate(WORDS):
            right.text(0, place / 2, word, rotation=30 * place, color=canvas.PURPLE)
    return figure


def test_every_word_is_text_as_it_was(figure: Any) -> None:
    before, after = drawn(figure), compact(drawn(figure))
    words = [text.text for text in of(before, "text")]
    assert [text.text for text in of(after, "text")] == words
    assert set(WORDS) <= set(words)


def test_a_sign_that_xml_does_not_know_is_replaced() -> None:
    with canvas.style():
        figure = Figure()
        figure.text(0, 0, "bell \x07, \uffff")
    with warnings.catch_warnings(action="ignore"):
        (text,) = of(compact(drawn(figure)), "text")
    assert text.text == "bell \ufffd, \ufffd"


def test_every_mark_is_drawn_where_it_was(figure: Any) -> None:
    before, after = drawn(figure), compact(drawn(figure))
    for tag in ("path", "use", "text"):
        old, new = of(before, tag), of(after, tag)
        if tag == "path":  # those in definitions come first
            old.sort(key=_numbers)
            new.sort(key=_numbers)
        assert len(old) == len(new) > 5
        for one, other in zip(old, new, strict=True):
            assert _numbers(one) == pytest.approx(_numbers(other), abs=0.00501)


def _numbers(element: ElementTree.Element) -> list[float]:
    said = " ".join(element.get(key, "") for key in ("d", "x", "y"))
    turn = re.match(r"rotate\((?!-0 ).*|translate.*", element.get("transform", ""))
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", said + (turn[0] if turn else ""))]


def test_it_takes_a_fraction_of_the_bytes(figure: Any) -> None:
    assert len(compact(drawn(figure))) < 0.5 * len(drawn(figure))


def test_names_that_are_used_are_there_once(figure: Any) -> None:
    after = compact(drawn(figure)).decode()
    names = re.findall(r"id='([^']+)'", after)
    used = set(re.findall(r"'#(\w{9,})'|url\(#(\w+)\)", after))
    assert len(names) == len(set(names))
    assert {one or other for one, other in used} <= set(names)


@pytest.mark.parametrize("colour", [False, True])
def test_images_keep_every_pixel_in_as_few_bands_as_they_need(colour: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    if not colour:
        pixels[:] = pixels[..., :1]
    with canvas.style():
        figure = Figure()
        figure.subplots().imshow(pixels, interpolation="none")
    (image,) = of(compact(drawn(figure)), "image")
    data = base64.b64decode(image.attrib["href"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as found:
        assert found.mode == ("RGB" if colour else "L")
        assert np.array_equal(np.asarray(found.convert("RGB")), pixels)


def test_a_page_gets_the_drawing_back_from_its_address(figure: Any) -> None:
    shown = picture(figure, "words")
    assert shown.size == (600, 400)
    assert not set(shown.uri) & set('"<>&#()\\\n')
    assert shown.uri.isascii()
    assert unquote_to_bytes(shown.uri.partition(",")[2]) == shown.data
