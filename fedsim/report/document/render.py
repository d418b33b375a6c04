"""From a document to one HTML file that needs nothing else and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

from fedsim.report.document.parts import Document
from fedsim.report.document.script import SCRIPT
from fedsim.report.document.style import STYLE
from fedsim.report.document.template import BLOCKS, PAGE

POLICY = (
    "default-src 'none'; img-src data:; style-src {style}; script-src {script}; "
    "base-uri 'none'; form-action 'none'"
)
"""What a browser may load: pictures that are in the file, and this style and script by their hash,
so that no name that slipped through could be executed."""


def render(document: Document) -> bytes:
    """Return the page: the same bytes for the same document."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=DictLoader({"blocks": BLOCKS, "page": '{% from "blocks" import show %}' + PAGE}),
    )
    html = environment.get_template("page").render(
        document=_without_empty(document),
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        policy=POLICY.format(style=_hash(STYLE), script=_hash(SCRIPT)),
    )
    return html.encode()


def _without_empty(document: Document) -> Document:
    return replace(document, sections=[part for part in document.sections if part.blocks])


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
