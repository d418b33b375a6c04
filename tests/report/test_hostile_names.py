"""Whatever sites, classes and files are called, a report is text: no markup, no formula, no TeX."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fedsim import markdown, report, spreadsheet
from fedsim.comparison.table import Table, escape

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
ACTIVE = {"script", "iframe", "object", "embed", "svg", "img", "a", "link", "base", "form", "style"}


class Elements(HTMLParser):
    """The elements of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))


def rendered(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """Return the elements that a renderer makes of Markdown which lets HTML and links through."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    renderer.validateLink = lambda url: True  # type: ignore[method-assign]
    return Elements(renderer.render(text)).found


@pytest.fixture(scope="module")
def folder(make_whole_record: Any, hostile: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a run whose names are hostile."""
    made = make_whole_record(tmp_path_factory.mktemp("run"), sites=4, virtual=True)
    report.write(hostile.spoil(made))
    return Path(made.folder) / "report"


@pytest.mark.slow
def test_no_cell_of_a_csv_is_a_formula(folder: Path, hostile: Any) -> None:
    seen = set()
    for file in folder.glob("*.csv"):
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.reader(lines):
                for cell in row:
                    seen.add(cell)
                    number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)
                    assert number or not cell.startswith(STARTS), cell
    assert f"'{hostile.sites[3]}" in seen


@pytest.mark.slow
def test_markdown_holds_no_markup_of_names(folder: Path) -> None:
    text = (folder / "results.md").read_text(encoding="utf-8")
    found = rendered(text)
    images = {attributes["src"] for tag, attributes in found if tag == "img"}
    assert images == {f.name for f in folder.glob("*.png")}
    assert not {tag for tag, _ in found} & (ACTIVE - {"img"})
    assert not [a for _, attributes in found for a in attributes if a.startswith("on")]
    columns = {line.count("|") - line.count("\\|") for line in text.splitlines() if line[:1] == "|"}
    assert len(columns) <= 3
    assert sum(tag == "table" for tag, _ in found) == text.count("\n| --- |") == 3


@pytest.mark.slow
def test_drawings_hold_no_markup_of_names(folder: Path) -> None:
    drawings = list(folder.glob("*.svg"))
    assert len(drawings) > 5
    for file in drawings:
        root = ElementTree.fromstring(file.read_bytes())
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert not tags & {"script", "a", "foreignObject", "iframe", "img"}
        addresses = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(address.startswith(("#", "data:image/png;")) for address in addresses)
        assert not [a for e in root.iter() for a in e.attrib if a.lower().startswith("on")]


@pytest.mark.slow
def test_the_page_holds_no_markup_of_names(folder: Path) -> None:
    found = Elements((folder / "index.html").read_text(encoding="utf-8")).found
    assert [tag for tag, _ in found if tag in ("script", "iframe", "svg", "object")] == ["script"]
    assert not [a for _, attributes in found for a in attributes if a.startswith("on")]
    addresses = [a[k] for _, a in found for k in ("src", "href") if k in a]
    assert all(str(address).startswith(("data:image/", "#")) for address in addresses)


TRICKS = st.lists(
    st.sampled_from(
        [*"<>[]()|`*_\\!#\n: -=&;/'\"", "script", "a", "javascript:", "http://x", "x", "](", "]:"]
    ),
    max_size=14,
).map("".join)


@given(TRICKS, TRICKS)
def test_no_cell_of_a_markdown_table_leaves_it(one: str, other: str) -> None:
    found = rendered(markdown.table(("a", "b"), [(one, other), ("x", "y")]) + "\n\nend\n")
    tags = [tag for tag, _ in found]
    assert tags.count("tr") == 3
    assert tags.count("td") == 4
    assert not set(tags) & ACTIVE


@given(TRICKS)
def test_prose_brings_no_link_and_no_html(text: str) -> None:
    found = rendered(markdown.harmless(f"Sites: {text}, and [0.1, 0.2]."))
    assert not {tag for tag, _ in found} & ACTIVE


@given(TRICKS, st.integers(0, 6))
def test_no_text_leaves_its_block_of_code(text: str, ticks: int) -> None:
    inside = f"a: {text}\n{'`' * ticks}\n<script>\n{text}"
    found = rendered(markdown.fenced(inside, "yaml") + "\n\nend\n")
    assert [tag for tag, _ in found] == ["pre", "code", "p"]


@given(st.text(st.characters(codec="utf-8")))
def test_a_guarded_cell_comes_back_and_is_no_formula(text: str) -> None:
    kept = spreadsheet.guarded(text)
    assert not kept.startswith(STARTS)
    assert spreadsheet.unguarded(kept) == text


def test_latex_has_no_command_of_a_name(hostile: Any) -> None:
    texts = [*hostile.sites, *hostile.classes, hostile.description]
    for text in (*texts, r"\input{/etc/passwd}", "^^5cx%"):
        written = escape(text)
        assert not re.search(r"(?<!\\)[%#&_]", written)
        commands = set(re.findall(r"\\([a-zA-Z]+)", written))
        assert commands <= {"textbackslash", "textasciicircum"}
        table = Table(text, ("a", text), ((text, "b"),))
        assert table.latex().count("\\\\\n") == 2
        assert not {tag for tag, _ in rendered(table.markdown())} & ACTIVE
