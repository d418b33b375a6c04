"""A run in a notebook: what is shown, that it is text, and that it is small."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from fedsim.records import RunRecord

ROUNDS = 4
MARKUP = "<script>alert('x')</script>&amp;"


def record(folder: Path, **changes: Any) -> RunRecord:
    metrics = [
        {"round": n, "split": split, "site": site, "metric": name, "value": value + n / 10}
        for n in range(ROUNDS + 1)
        for split, site in (("validation", "pooled"), ("test", "pooled"), ("test", "Basel"))
        for name, value in (("auroc", 0.5), ("loss", 0.1))
    ]
    interval = {"method": "federated", "model": "final", "split": "test", "site": "pooled"}
    made = RunRecord(
        folder=folder,
        run={"digest": "0"},
        scenario={
            "name": "films",
            "description": "FedAvg on films",
            "rounds": ROUNDS,
            "evaluation": {"metrics": ["auroc", "loss"], "select_by": "auroc"},
        },
        population={},
        environment={},
        rounds=[{"round": n} for n in range(1, ROUNDS + 1)],
        metrics=metrics,
        timing=[],
        baselines=[],
        intervals=[{**interval, "metric": "auroc", "low": 0.8765, "high": 0.95}],
        ledger=[],
    )
    return dataclasses.replace(made, **changes)


class Page(HTMLParser):
    """Elements, links and text of some HTML; refuses what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open += [tag] * (tag != "br")
        self.links += [value for name, value in attrs if name == "href"]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_shows_question_values_interval_and_a_curve(tmp_path: Path) -> None:
    shown = record(tmp_path)._repr_html_()
    page = Page(shown)
    for text in ("films", "FedAvg on films", "AUROC", "0.900", "0.876 to 0.950", "final (round 4)"):
        assert text in page.text
    assert page.tags.count("polyline") == 2
    assert "script" not in page.tags
    assert len(shown) < 5_000


@pytest.mark.parametrize("said", ["synthetic images", "fedsim ledger"])
def test_what_limits_the_numbers_is_said(tmp_path: Path, said: str) -> None:
    known = {"population": {"images": {"synthetic": True}}, "ledger": [{"round": 1}]}
    assert said in Page(record(tmp_path, **known)._repr_html_()).text
    assert said not in Page(record(tmp_path)._repr_html_()).text


def test_names_are_text(tmp_path: Path) -> None:
    made = record(tmp_path / MARKUP.replace("/", "-"))
    made.scenario.update(name=MARKUP, description=MARKUP)
    page = Page(made._repr_html_())
    assert "script" not in page.tags
    assert page.text.count(MARKUP) == 2


@pytest.mark.parametrize("inside", [True, False])
def test_the_report_is_linked_where_it_is(
    tmp_path: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'runs "a" & b'
    (folder / "report").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path if inside else tmp_path / "elsewhere")
    assert Page(record(folder)._repr_html_()).links == []
    (folder / "report" / "index.html").touch()
    (link,) = Page(record(folder)._repr_html_()).links
    where = 'runs "a" & b/report/index.html'
    assert unquote(link) == (where if inside else f"file://{tmp_path}/{where}")


def test_a_run_without_values_shows_that_it_has_none(tmp_path: Path) -> None:
    page = Page(record(tmp_path, metrics=[], intervals=[], rounds=[])._repr_html_())
    assert "0 of 4 rounds" in page.text
    assert "undefined" in page.text
    assert "svg" not in page.tags


def test_undefined_values_are_left_out_of_the_curve(tmp_path: Path) -> None:
    made = record(tmp_path)
    for row in made.metrics:
        row["value"] = 0.5 if row["split"] == "test" else None
    assert Page(made._repr_html_()).tags.count("polyline") == 2


def test_as_text_it_is_one_line(tmp_path: Path) -> None:
    assert repr(record(tmp_path)) == f"<RunRecord films, 4 of 4 rounds, {tmp_path}>"
