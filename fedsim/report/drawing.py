"""A figure's SVG in a fraction of its bytes, with the same look: pages are kept, sent and compared.

Letters are text, in a font of the reader's computer. What matplotlib writes beside the drawing (who
made it, a name for every group) is left out, and coordinates have the decimals that an eye can see.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

FONTS = "DejaVu Sans,Verdana,sans-serif"
"""What figures are laid out in, its like on Windows and macOS, and whatever else there is."""
DECIMALS = 2
"""Of a coordinate in points: a hundredth of one is a seventieth of a pixel on a page."""
COORDINATES = ("d", "x", "y", "width", "height", "transform")
SVG, HREF = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
LEFT_OUT = ("metadata", "style")
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Signs that a name may hold and a drawing may not."""
LOOKS = ("fill", "stroke", "stroke-width", "stroke-linejoin")
"""What a marker may say once instead of at each of its places."""


def compact(svg: bytes) -> bytes:
    """Return a drawing that looks like one of matplotlib's, written with `svg.fonttype: none`."""
    root = ElementTree.fromstring(NO_XML.sub("\N{REPLACEMENT CHARACTER}", svg.decode()))
    for element in root.iter():
        _shorten(element)
    defined = Element("defs")
    root[:] = [defined, *_flat(root, defined)]
    _look_once(root, defined)
    root.attrib |= {"xmlns": SVG, "font-family": FONTS, "stroke-linejoin": "round"}
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r"<[^>]+>", _in_single_quotes, text).encode()


def _shorten(element: Element) -> None:
    """Say looks as attributes, coordinates in few decimals, and nothing of a turn by nothing."""
    element.tag = element.tag.removeprefix(f"{{{SVG}}}")
    for said in element.attrib.pop("style", "").split(";"):
        key, colon, value = said.partition(":")
        if colon and key.strip() != "font-family":
            element.set(key.strip(), value.strip())
    if HREF in element.attrib:
        used = element.attrib.pop(HREF)
        element.set("href", _repacked(used) if element.tag == "image" else used)
    for key in COORDINATES:
        place = element.get(key, "matrix")
        if not place.startswith("matrix"):
            element.set(key, _rounded(place))
    if element.get("transform", "").startswith("rotate(0 "):
        del element.attrib["transform"]
    element.tail = None
    if element.tag != "text":
        element.text = None


def _rounded(value: str) -> str:
    r"""Return coordinates in few decimals.

    >>> _rounded("M -0.001 20.756 \nL 3 7.5 \nz"), _rounded("rotate(-0 7.2 15)")
    ('M0 20.76L3 7.5z', 'rotate(0 7.2 15)')
    """
    short = re.sub(r"-?\d+(\.\d+)?", lambda n: f"{round(float(n[0]), DECIMALS) + 0:g}", value)
    return re.sub(r"\s*\b([MLQCz])\s*", r"\1", short)


def _repacked(address: str) -> str:
    """Return the address of a PNG with the same pixels, grey ones in one band, without padding."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        pixels = image.convert("RGBA")
    *colours, opacity = pixels.split()
    if opacity.getextrema() == (255, 255):
        is_grey = len({band.tobytes() for band in colours}) == 1
        pixels = colours[0] if is_grey else pixels.convert("RGB")
    pixels.save(stream, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _flat(group: Element, defined: Element) -> Iterator[Element]:
    """Yield what is in a group, without groups that say nothing; definitions go to theirs."""
    for element in group:
        if element.tag == "defs":
            defined.extend(part for part in element if part.tag not in LEFT_OUT)
        elif element.tag == "g":
            element[:] = _flat(element, defined)
            yield from [element] if set(element.attrib) - {"id"} else element
        elif element.tag not in LEFT_OUT:
            yield element


def _look_once(root: Element, defined: Element) -> None:
    """Let a marker that looks alike at all its places say how, and not the places."""
    for marker in defined:
        places = root.findall(f".//*[@href='#{marker.get('id')}']")
        for look in LOOKS:
            found = {place.get(look) for place in places}
            if len(found) == 1 and (value := found.pop()) is not None:
                marker.attrib.setdefault(look, value)
                for place in places:
                    del place.attrib[look]


def _in_single_quotes(tag: re.Match[str]) -> str:
    """Return a tag whose values do not end the attribute of a page in which it stands."""
    return tag[0].replace("'", "&apos;").replace('"', "'").replace(" />", "/>")
