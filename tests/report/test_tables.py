"""Tables say what the record says, and never take "undefined" for zero."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fedsim.report import results as report_results
from fedsim.report import tables


@pytest.fixture
def small(make_record: Any, make_row: Any) -> Any:
    """Three sites; AUROC after round 1 (best) and 2 (final), undefined at the third site."""
    record = make_record(sites=3, rounds=2)
    record.population["sites"] = [
        {"name": "north", "train": [6, 4], "validation": [1, 1], "test": [2, 2]},
        {"name": "east", "train": [8, 0], "validation": [2, 0], "test": [3, 1]},
        {"name": "south", "train": [0, 5], "validation": [0, 1], "test": [2, 0]},
    ]
    values = {
        (1, "auroc"): (0.75, 0.9, 0.7, None),
        (2, "auroc"): (0.70, 0.8, 0.6, None),
        (1, "loss"): (0.50, 0.4, 0.5, 0.6),
        (2, "loss"): (0.45, 0.3, 0.9, 0.0),
    }
    record.metrics = [
        make_row(round, "test", site, metric, value, n)
        for (round, metric), found in values.items()
        for site, value, n in zip(
            ("pooled", "north", "east", "south"), found, (10, 4, 4, 2), strict=True
        )
    ]
    record.selection = SimpleNamespace(
        metric="auroc", best_round=1, final_round=2, higher_is_better=True
    )
    return record


def test_results_match_hand_computed_values(small: Any) -> None:
    final, best, loss, _ = tables.results(small)
    assert (final.metric, final.model, final.round) == ("auroc", "final", 2)
    assert (final.pooled, final.num_examples, final.num_valid) == (0.70, 10, 10)
    assert final.site_mean == pytest.approx(0.7)
    assert final.site_sd == pytest.approx(0.02**0.5)  # two values, 0.1 from their mean: n - 1 = 1
    assert (final.worst_site, final.worst) == ("east", 0.6)
    assert final.gap == pytest.approx(0.2)
    assert (final.num_sites_defined, final.num_sites) == (2, 3)
    assert (best.model, best.round, best.pooled) == ("best", 1, 0.75)
    assert (loss.metric, loss.worst_site, loss.gap) == ("loss", "east", 0.9)  # lower is better
    assert loss.num_sites_defined == 3  # a loss of 0.0 is a value


def test_the_run_is_described_with_its_server_optimizer_and_where_it_stopped(small: Any) -> None:
    small.scenario.update(server_optimizer={"kind": "adam"}, rounds=5)
    assert (
        "margin + principal_gradient + adam · unfinished: 2 of 5 rounds · synthetic images"
        in tables.to_markdown(small)
    )


def test_sites_in_their_order_with_counts_and_values(small: Any) -> None:
    north, _, south = tables.sites(small)
    assert north == {
        "site": "north",
        "num_train": 10,
        "num_validation": 2,
        "num_test": 4,
        "auroc_final": 0.8,
        "auroc_final_num_valid": 4,
        "auroc_best": 0.9,
        "auroc_best_num_valid": 4,
        "loss_final": 0.3,
        "loss_final_num_valid": 4,
        "loss_best": 0.4,
        "loss_best_num_valid": 4,
    }
    assert (south["auroc_final"], south["loss_final"]) == (None, 0.0)


def test_a_site_s_value_comes_with_what_it_counts(small: Any) -> None:
    for row in small.metrics:
        if row["site"] == "north":
            row["num_valid"] = 3  # of four, as of sensitivity
    assert tables.sites(small)[0]["auroc_final_num_valid"] == 3
    assert "| north | 10 | 2 | 4 | 0.800 (3) | 0.300 (3) |" in tables.to_markdown(small)
    assert "auroc_final,auroc_final_num_valid,auroc_best," in tables.sites_csv(small)


def test_csv_keeps_every_digit_and_leaves_undefined_cells_empty(small: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.results_csv(small))))
    assert [set(row) for row in rows] == [set(asdict(tables.results(small)[0]))] * 4
    assert float(rows[0]["site_mean"]) == tables.results(small)[0].site_mean
    south = list(csv.DictReader(io.StringIO(tables.sites_csv(small))))[2]
    assert (south["auroc_final"], south["loss_final"]) == ("", "0.0")


def test_markdown_names_what_is_undefined(small: Any) -> None:
    text = tables.to_markdown(small)
    assert "| AUROC ↑ | final (2) | 0.700 | 10 | 0.700 ± 0.141 | 0.600 east | 0.200 | 2/3 |" in text
    assert "| site | train | validation | test | AUROC ↑ (n) | loss ↓ (n) |" in text
    assert "| south | 5 | 1 | 2 | undefined (0) | 0.000 (2) |" in text
    assert "label-skew · seed 7 · margin + principal_gradient · synthetic images" in text


def test_markdown_survives_a_bar_in_a_name(small: Any) -> None:
    small.population["sites"][2]["name"] = "a|b"
    assert "| a\\|b | 5 |" in tables.to_markdown(small)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_undefined_never_becomes_zero(small: Any, value: float | None) -> None:
    for row in small.metrics:
        row["value"] = value
    for result in tables.results(small):
        assert (result.pooled, result.site_mean, result.site_sd) == (None, None, None)
        assert (result.worst_site, result.worst, result.gap) == (None, None, None)
        assert result.num_sites_defined == 0
    assert "0.000" not in tables.to_markdown(small)


def test_one_site_has_no_spread(make_record: Any) -> None:
    result = tables.results(make_record(sites=1, rounds=1, metrics=("loss",)))[0]
    assert result.site_mean == result.worst
    assert (result.site_sd, result.gap) == (None, None)


def test_what_was_not_evaluated_is_undefined(small: Any) -> None:
    small.metrics = [row for row in small.metrics if row["round"] == 1]
    assert tables.results(small)[0].pooled is None


@pytest.mark.parametrize(("defined", "expected"), [(True, "0."), (False, "undefined")])
def test_terminal_shows_both_models(make_record: Any, defined: bool, expected: str) -> None:
    console = Console(file=io.StringIO(), width=80)
    tables.render(make_record(sites=8, rounds=30, defined=defined), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(line.split() == ["AUROC", "↑"] for line in lines)
    final, best = (next(line for line in lines if word in line) for word in ("final", "best (23)"))
    assert "final (30)" in final
    assert expected in final
    assert expected in best
    assert defined or "0.000" not in final
    assert not any("…" in line for line in lines)


def test_results_are_plain_data(small: Any) -> None:
    rows = json.loads(json.dumps(report_results(small), allow_nan=False))
    assert rows[0]["worst_site"] == "east"
    assert rows == report_results(small)


def test_terminal_takes_names_literally(small: Any) -> None:
    small.scenario["name"] = "[red]skew"
    console = Console(file=io.StringIO(), width=100)
    tables.render(small, console)
    assert "[red]skew" in console.file.getvalue()  # type: ignore[attr-defined]
