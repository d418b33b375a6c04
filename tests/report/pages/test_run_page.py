"""A run's page says what the record says, needs nothing but itself, takes no name for markup."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim import report
from fedsim.report.document.parts import Cell, Table, size, word
from fedsim.report.document.words import in_words, part, without_places

EVIL = "<script>alert('x')</script>&\"quoted\""
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Tree(HTMLParser):
    """What is in a page; elements must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.of("section")]


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an empty drawing in the place of each figure: what they show is tested elsewhere."""
    empty = b"<svg width='72pt' height='36pt'/>"
    monkeypatch.setattr("fedsim.report.canvas.encode", lambda figure, format: empty)


def page_of(record: Any) -> str:
    report.write(record)
    return (record.folder / "report/index.html").read_text(encoding="utf-8")


@pytest.fixture
def whole(make_whole_record: Any, tmp_path: Path) -> Any:
    record = make_whole_record(tmp_path, virtual=True)
    record.scenario["baselines"] = ["pooled", "local"]
    return record


def test_a_whole_run_has_every_section(whole: Any) -> None:
    tree = Tree(page_of(whole))
    assert tree.sections == [
        "setup",
        "population",
        "results",
        "sites",
        "fleet",
        "loss",
        "environment",
        "citations",
        "repeat",
    ]
    links = [link["href"] for link in tree.of("a")]
    assert links == ["#content", *(f"#{name}" for name in tree.sections)]
    ids = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(tree.of("h1")) == len(tree.of("main")) == 1


def test_what_a_run_lacks_is_left_out(make_record: Any, tmp_path: Path) -> None:
    record = make_record(tmp_path, decomposition=False)
    tree = Tree(page_of(record))
    assert not {"fleet", "loss"} & set(tree.sections)
    assert "Fleet" not in tree.text
    assert "By virtual time" not in tree.text


def test_numbers_are_those_of_the_record(whole: Any) -> None:
    text = Tree(page_of(whole)).text
    for row in report.results(whole):
        if row["pooled"] is not None and row["model"] == "final":
            assert f"{row['pooled']:.3f}" in text
    for site in whole.population["sites"]:
        assert f"{site['name']} {site['train'][0]:,} {site['train'][1]:,}" in text


def test_it_needs_nothing_but_itself(whole: Any) -> None:
    html = page_of(whole)
    tree = Tree(html)
    assert not tree.of("link")
    assert not tree.of("iframe")
    addresses = [a[name] for _, a in tree.tags for name in ("src", "href", "action") if name in a]
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|import\(", html)
    (policy,) = [m["content"] for m in tree.of("meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [
        a for _, a in tree.tags if any(name.startswith("on") or name == "style" for name in a)
    ]


def test_names_and_descriptions_are_text(whole: Any) -> None:
    whole.scenario["description"] = EVIL
    whole.population["class_names"] = [EVIL, 'b"><img src=x onerror=alert(1)>']
    for rows in (whole.metrics, whole.intervals, whole.baselines):
        for row in rows:
            for key in ("site", "trained_at"):
                if row.get(key) == "site-00":
                    row[key] = EVIL
    whole.population["sites"][0]["name"] = EVIL
    whole.population["devices"] = {EVIL: EVIL}
    whole.population["checksums"] = {EVIL: EVIL}
    whole.population["citation"] = f"@misc{{{EVIL},\n}}"
    whole.environment = {**whole.environment, "platform": EVIL}
    tree = Tree(page_of(whole))
    assert len(tree.of("script")) == 1
    assert not [image for image in tree.of("img") if image["src"] == "x"]
    assert tree.text.count(EVIL) > 5
    assert EVIL in tree.of("img")[0]["alt"]


def test_the_same_record_gives_the_same_page(whole: Any) -> None:
    assert page_of(whole) == page_of(whole)


def test_every_figure_has_words_for_it(whole: Any) -> None:
    images = Tree(page_of(whole)).of("img")
    names = [name.stem for name in (whole.folder / "report").glob("*.svg")]
    assert len(images) == len(names) >= 7
    assert all(len(image["alt"]) > 40 for image in images)
    assert all(int(image["width"]) > 0 and int(image["height"]) > 0 for image in images)


def test_figures_say_the_numbers_that_they_show(whole: Any) -> None:
    alts = [image["alt"] for image in Tree(page_of(whole)).of("img")]
    final = next(row for row in report.results(whole) if row["model"] == "final")
    assert any(f"to {final['pooled']:.3f}" in alt for alt in alts)
    assert any("virtual seconds" in alt for alt in alts)


def test_tables_can_be_sorted_by_what_cells_mean(whole: Any) -> None:
    html = page_of(whole)
    tree = Tree(html)
    assert len(tree.of("table")) == len(tree.of("caption")) > 3
    assert all(heading.get("scope") in ("col", "row") for heading in tree.of("th"))
    value = next(row["pooled"] for row in report.results(whole))
    assert f'data-key="{value:.6g}"' in html
    undefined = [row for row in whole.metrics if row["value"] is None]
    assert undefined
    assert 'data-key="None"' not in html
    assert 'data-key="nan"' not in html


def test_where_a_file_lay_is_not_told(make_record: Any, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    record.scenario["model"]["weights"] = "/home/somebody/resnet.pth"
    html = page_of(record)
    assert "resnet.pth" in html
    assert "somebody" not in html
    assert str(tmp_path) not in html


def test_an_unfinished_run_says_so(make_record: Any, tmp_path: Path) -> None:
    record = make_record(tmp_path)
    record.metrics, record.rounds = [], []
    record.selection.best_round = record.selection.final_round = 0
    tree = Tree(page_of(record))
    assert "This run is not finished" in tree.text
    assert "0 of 4" in tree.text


def test_a_server_that_holds_all_tests_has_no_sites_to_show(
    make_record: Any, tmp_path: Path
) -> None:
    record = make_record(tmp_path, sites=1)
    record.population["drawn"] = {
        "num_sites": 9000,
        "examples_per_site": [5, 5],
        "pool": 70,
        "unit": "image",
    }
    tree = Tree(page_of(record))
    assert "sites" not in tree.sections
    assert "9,000, which draw their images from a pool" in tree.text


def test_the_scenario_is_there_in_words_and_as_yaml(whole: Any) -> None:
    tree = Tree(page_of(whole))
    for key in ("strategy", "evaluation"):
        written = yaml.safe_dump({key: whole.scenario[key]}, sort_keys=False).split("\n")[1].strip()
        assert written in tree.text
    said = in_words(whole.scenario, whole.population)
    assert said["Local objective"] == "margin"
    assert said["A site's work in a round"].startswith("1 epochs in batches of 16")
    for words in said.values():
        assert words in tree.text


def test_the_command_that_repeats_it(whole: Any) -> None:
    tree = Tree(page_of(whole))
    assert f"fedsim run {whole.folder.name}/scenario.yaml --device cpu" in tree.text
    assert whole.run["digest"] in tree.text


def test_what_to_cite_is_there(whole: Any) -> None:
    whole.population["citation"] = "@article{images,\n  title = {Images},\n}"
    text = Tree(page_of(whole)).text
    for key in ("zeng2024fedld", "images", "beutel2020flower", "paszke2019pytorch"):
        assert f"{{{key}," in text
    assert text.count("{zeng2024fedld,") == 1


def test_packages_that_are_not_there_are_not_listed(whole: Any) -> None:
    text = Tree(page_of(whole)).text
    assert "torch 2.13.0" in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a": ["/etc/x.csv", 3]}, {"a": ["x.csv", 3]}),
        ("relative/x", "relative/x"),
        (None, None),
    ],
)
def test_absolute_paths_become_names(value: Any, kept: Any) -> None:
    assert without_places(value) == kept


def test_a_part_says_what_is_set() -> None:
    assert part({"kind": "x", "a": None, "b": True, "c": [1, 2], "d": {"e": 1}}) == (
        "x (b yes, c [1, 2], d {e: 1})"
    )


def test_a_column_is_one_of_numbers_if_all_that_is_defined_is() -> None:
    table = Table("t", ("a", "b", "c"), [[word("x"), Cell("1", 1), Cell("-", None)]] * 2)
    assert [table.is_numeric(n) for n in range(3)] == [False, True, False]
    assert size(1_500_000) == "1.5 MB"
