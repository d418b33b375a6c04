"""A study's page answers the question first, shows what there is, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fedsim.records.study import read_study
from fedsim.report import study
from fedsim.report.study.looks import looks
from fedsim.report.study.tables import signed_number

EVIL = "<script>alert(1)</script>"
SECTIONS = [
    "answer",
    "methods",
    "learning",
    "ranks",
    "costs",
    "fairness",
    "join",
    "probabilities",
    "setup",
    "population",
    "tuning",
    "power",
    "failures",
    "environment",
    "citations",
    "repeat",
]


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an empty drawing in the place of each figure: what they show is tested elsewhere."""
    empty = b"<svg width='72pt' height='36pt'/>"
    monkeypatch.setattr("fedsim.report.canvas.encode", lambda figure, format: empty)


def page_of(folder: Path) -> str:
    return study.write(read_study(folder)).read_text(encoding="utf-8")


def sections(html: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', html)


def test_a_compared_study_has_every_section(make_study: Any, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", virtual=True)
    html = page_of(folder)
    assert sections(html) == SECTIONS
    assert "By virtual time" in html
    comparison = json.loads((folder / "comparison.json").read_text())
    for row in comparison["summary"]:
        assert f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in html
    for row in comparison["differences"]:
        if row["metric"] == "auroc":
            assert f"{signed_number(row['mean'])} [" in html
    assert "0.800 [0.713, 0.912]" in html
    assert " [-0.062, +0.087]" in html
    assert "over seeds and test patients together" in html
    for sentence in comparison["sentences"]:
        assert sentence in html
    first = html.index(comparison["sentences"][0])
    assert html.index("Does principal-gradient") < first < html.index("<table")
    assert "the loss is not finite in round 3" in html
    assert html == page_of(folder)


def test_every_part_that_is_missing_leaves_no_heading(make_study: Any, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", target=None, settings=("base",))
    file = folder / "comparison.json"
    content = json.loads(file.read_text())
    for part in ("worst_site_summary", "yardsticks", "join", "calibration", "decision_curves"):
        content[part] = []
    for part in ("tuned", "ranks", "sentences", "traffic"):
        content[part] = []
    content["power"] = {"rows": []}
    file.write_text(json.dumps(content))
    html = page_of(folder)
    assert sections(html) == [
        "methods",
        "learning",
        "setup",
        "population",
        "failures",
        "environment",
        "citations",
        "repeat",
    ]
    assert "By virtual time" not in html
    assert not re.search(r"</h2>\s*</section>", html)


def test_nothing_is_made_of_a_rank_without_a_critical_difference(
    make_study: Any, tmp_path: Path
) -> None:
    without = page_of(make_study(tmp_path / "a/study"))
    assert "Mean rank of each method, 1 is best</caption>" in without
    with_one = page_of(make_study(tmp_path / "b/study", critical_difference=1.1))
    assert 'alt="Mean ranks: fedavg 1.20' in with_one
    assert "Mean rank of each method, 1 is best</caption>" not in with_one


def test_a_study_that_is_not_compared_yet_says_so(make_study: Any, tmp_path: Path) -> None:
    html = page_of(make_study(tmp_path / "study", compared=False))
    assert "This study is not finished" in html
    assert "24 runs are done and 1 failed" in html
    assert sections(html) == [
        "setup",
        "population",
        "failures",
        "environment",
        "citations",
        "repeat",
    ]


def test_a_study_without_any_run_has_a_page(make_study: Any, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", compared=False)
    (folder / "cells.jsonl").unlink()
    assert sections(page_of(folder)) == ["setup", "repeat"]


def test_names_are_text(make_study: Any, tmp_path: Path) -> None:
    folder = make_study(
        tmp_path / "study",
        methods=("fedavg", EVIL),
        settings=(f"a={EVIL}", "a=2"),
        question=EVIL,
        sites=(EVIL, "site-01"),
    )
    html = page_of(folder)
    assert EVIL not in html
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_undefined_values_are_no_numbers(make_study: Any, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study")
    file = folder / "comparison.json"
    content = json.loads(file.read_text())
    for row in [*content["summary"], *content["differences"], *content["join"]]:
        for key in ("mean", "sd", "low", "high", "gain_over_alone", "gain_over_pooled", "p"):
            if key in row:
                row[key] = None
        row.update({k: None for k in ("probability_of_harm", "p_adjusted") if k in row})
    for row in content["power"]["rows"]:
        row.update(dict.fromkeys(("sd", "detectable", "seeds_needed", "cautious_seeds_needed")))
    file.write_text(json.dumps(content))
    html = page_of(folder)
    assert "None" not in html
    assert not re.search(r"\bnan\b", html)


def test_curves_without_a_value_are_not_drawn(make_study: Any, tmp_path: Path) -> None:
    """Sites without labels for their validation images tell no AUROC."""
    folder = make_study(tmp_path / "study")
    for file in (tmp_path / "cells").glob("*/metrics.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [row | {"value": None} if row["split"] == "validation" else row for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sections(page_of(folder)) == [name for name in SECTIONS if name != "learning"]


def test_a_run_that_is_gone_is_left_out(make_study: Any, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study")
    for file in (tmp_path / "cells").glob("fedavg-*/run.json"):
        file.unlink()
    assert sections(page_of(folder)) == SECTIONS


@pytest.mark.parametrize("num", [2, 9, 15])
def test_methods_are_told_apart(num: int) -> None:
    names = [f"m{n}" for n in range(num)]
    found = looks(names, "m0")
    assert len({(look.colour, look.marker, str(look.line)) for look in found.values()}) == num
    assert found["m0"].colour == "#000000"
