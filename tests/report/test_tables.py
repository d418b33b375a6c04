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
from fedsim.report import rows, tables, terminal
from fedsim.spreadsheet import to_csv


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
    final, best, loss, _ = rows.results(small)
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
    north, _, south = rows.sites(small)
    assert north == {
        "site": "north",
        "counts": True,
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
    assert rows.sites(small)[0]["auroc_final_num_valid"] == 3
    assert "| north | 10 | 2 | 4 | 0.800 (3) | 0.300 (3) |" in tables.to_markdown(small)
    assert "auroc_final,auroc_final_num_valid,auroc_best," in rows.sites_csv(small)


def test_csv_keeps_every_digit_and_leaves_undefined_cells_empty(small: Any) -> None:
    read = list(csv.DictReader(io.StringIO(rows.results_csv(small))))
    assert [set(row) for row in read] == [set(asdict(rows.results(small)[0]))] * 4
    assert float(read[0]["site_mean"]) == rows.results(small)[0].site_mean
    south = list(csv.DictReader(io.StringIO(rows.sites_csv(small))))[2]
    assert (south["auroc_final"], south["loss_final"]) == ("", "0.0")


def test_markdown_names_what_is_undefined(small: Any) -> None:
    text = tables.to_markdown(small)
    final = "| federated | final (2) | 0.700 | 10 | 0.700 ± 0.141 | 0.600 east | 0.200 | 2/3 |"
    assert f"| AUROC ↑ {final}" in text
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
    for result in rows.results(small):
        assert (result.pooled, result.site_mean, result.site_sd) == (None, None, None)
        assert (result.worst_site, result.worst, result.gap) == (None, None, None)
        assert result.num_sites_defined == 0
    assert "0.000" not in tables.to_markdown(small)


def test_one_site_has_no_spread(make_record: Any) -> None:
    result = rows.results(make_record(sites=1, rounds=1, metrics=("loss",)))[0]
    assert result.site_mean == result.worst
    assert (result.site_sd, result.gap) == (None, None)


def test_what_was_not_evaluated_is_undefined(small: Any) -> None:
    small.metrics = [row for row in small.metrics if row["round"] == 1]
    assert rows.results(small)[0].pooled is None


@pytest.mark.parametrize(("defined", "expected"), [(True, "0."), (False, "undefined")])
def test_terminal_shows_both_models(make_record: Any, defined: bool, expected: str) -> None:
    console = Console(file=io.StringIO(), width=80)
    terminal.render(make_record(sites=8, rounds=30, defined=defined), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(line.split() == ["AUROC", "↑"] for line in lines)
    final, best = (next(line for line in lines if word in line) for word in ("final", "best (23)"))
    assert "final (30)" in final
    assert expected in final
    assert expected in best
    assert defined or "0.000" not in final
    assert not any("…" in line for line in lines)


def with_everything(record: Any) -> Any:
    """Return the record with a minimum, intervals, yardsticks and an external set."""
    record.scenario["evaluation"]["min_per_class"] = 2
    record.scenario["evaluation"]["num_resamples"] = 100

    def interval(method: str, site: str, split: str, low: float, high: float) -> dict[str, Any]:
        whole = {"method": method, "model": "final", "split": split, "site": site}
        more = {"confidence": 0.95, "num_resamples": 100, "unit": "patient"}
        return {**whole, "metric": "auroc", "low": low, "high": high, **more}

    def yardstick(kind: str, trained_at: str, site: str, value: float) -> dict[str, Any]:
        front = {"baseline": kind, "model": "final", "trained_at": trained_at}
        row = {"round": 2, "split": "test", "site": site, "metric": "auroc", "value": value}
        return {**front, **row, "num_examples": 10, "num_valid": 10}

    record.intervals = [
        interval("federated", "pooled", "test", 0.61, 0.79),
        interval("federated", "north", "test", 0.5, 0.9),
        interval("federated", "pooled", "external", 0.55, 0.75),
        interval("pooled", "pooled", "test", 0.8, 0.99),
    ]
    record.baselines = [
        yardstick("pooled", "pooled", "pooled", 0.95),
        yardstick("pooled", "pooled", "north", 0.94),
        yardstick("local", "pooled", "pooled", 0.66),
        yardstick("local", "north", "north", 0.77),
        yardstick("local", "north", "east", 0.11),
    ]
    record.population["external"] = [{"name": "abroad", "test": [4, 4]}]
    record.metrics.append(
        {
            **{"round": 2, "split": "external", "site": "abroad", "metric": "auroc"},
            **{"value": 0.65, "num_examples": 8, "num_valid": 8},
        }
    )
    record.population["duplicates"] = {
        "num_groups": 9,
        "across_splits": 8,
        "across_sites": 3,
        "across_labels": 1,
        "examples": [
            ["north, train, normal, image 3", "east, test, normal, image 9"],
            *([f"south, train, normal, image {i}" for i in range(k, k + 4)] for k in (10, 20, 30)),
        ],
    }
    record.population["num_mislabelled"] = {"north": 2, "east": 0}
    return record


def test_who_attacks_is_told(small: Any) -> None:
    assert "attack" not in tables.to_markdown(small)
    attack = {"kind": "sign_flip", "from_round": 2, "sites": ["east"]}
    small.population["adversaries"] = [attack]
    says = "1 of 3 sites attacks: sign_flip from round 2 (east)"
    assert f"\n\n{says}.\n\n" in tables.to_markdown(small)
    console = Console(record=True, width=100, file=io.StringIO())
    terminal.render(small, console)
    assert says in console.export_text()


def test_what_no_site_can_know_of_another_is_not_counted(small: Any) -> None:
    record = with_everything(small)
    assert "8 of them in several splits, 3 at several sites, 1 with" in tables.to_markdown(record)
    record.population["duplicates"]["across_sites"] = None
    text = tables.to_markdown(record)
    assert "8 of them in several splits, 1 with different labels" in text
    assert "Whether two sites have the same image is not known" in text


def test_only_sites_with_enough_of_every_class_count(small: Any) -> None:
    record = with_everything(small)
    final = rows.results(record)[0]
    assert (final.site_mean, final.worst_site, final.num_sites_defined) == (0.8, "north", 1)
    assert (final.site_sd, final.gap, final.num_sites) == (None, None, 3)
    assert [row["counts"] for row in rows.sites(record)] == [True, False, False]
    text = tables.to_markdown(record)
    assert "over the 1 of 3 sites with at least 2 test images of every class, so without " in text
    assert "so without east, south." in text
    record.scenario["evaluation"]["min_per_class"] = 99
    none = rows.results(record)[0]
    assert (none.site_mean, none.worst_site, none.num_sites_defined) == (None, None, 0)
    assert none.pooled == 0.7


def test_yardsticks_stand_in_the_same_table(small: Any) -> None:
    record = with_everything(small)
    auroc = [row for row in rows.results(record) if row.metric == "auroc"]
    assert [(row.method, row.model, row.round) for row in auroc] == [
        ("federated", "final", 2),
        ("federated", "best", 1),
        ("pooled", "final", 2),
        ("local", "final", None),
    ]
    pooled, local = auroc[2:]
    assert (pooled.pooled, pooled.worst, pooled.low, pooled.high) == (0.95, 0.94, 0.8, 0.99)
    assert (local.pooled, local.worst, local.low) == (0.66, 0.77, None), "its own model alone"
    text = tables.to_markdown(record)
    assert "| AUROC ↑ | pooled training | final (2) | 0.950 [0.800, 0.990] | 10 |" in text
    assert "| AUROC ↑ | each site alone | final (\N{EN DASH}) | 0.660 | 10 |" in text
    assert "Yardsticks: " in text


def test_models_of_single_sites_have_a_row_for_each_place_of_test(small: Any) -> None:
    record = with_everything(small)
    loss = {**record.baselines[-1], "metric": "loss", "value": None, "num_valid": 0}
    abroad = {**record.baselines[-1], "split": "external", "site": "abroad", "value": 0.22}
    best = {**record.baselines[-1], "model": "best", "value": 0.99}
    record.baselines = [abroad, loss, best, *record.baselines]
    assert to_csv(rows.local_models(record)).splitlines() == [
        "trained_at,split,site,auroc,auroc_num_valid,loss,loss_num_valid",
        "north,test,north,0.77,10,,",
        "north,test,east,0.11,10,,0",
        "north,external,abroad,0.22,10,,",
    ]


def test_yardsticks_come_method_by_method(small: Any) -> None:
    record = with_everything(small)
    record.baselines += [{**row, "model": "best"} for row in record.baselines]
    found = [(row.method, row.model) for row in rows.results(record) if row.metric == "auroc"]
    methods = ("federated", "pooled", "local")
    assert found == [(method, model) for method in methods for model in ("final", "best")]


def test_the_note_says_what_was_resampled(small: Any) -> None:
    record = with_everything(small)
    record.intervals[2]["unit"] = "image"  # the set from elsewhere does not know its patients
    text = tables.to_markdown(record)
    assert "of the test patients (images where patients are not known); they" in text
    for row in record.intervals:
        row["unit"] = "image"
    assert "100 resamples of the test images; they cover" in tables.to_markdown(record)


def test_an_interval_that_resamples_do_not_determine_is_no_interval(small: Any) -> None:
    record = with_everything(small)
    record.intervals[0].update(low=None, high=None)
    assert (rows.results(record)[0].low, rows.results(record)[0].high) == (None, None)
    assert "| federated | final (2) | 0.700 | 10 |" in tables.to_markdown(record)


def test_the_terminal_shows_yardsticks_and_external_images_in_80_columns(
    make_whole_record: Any,
) -> None:
    record = make_whole_record(rounds=100)
    console = Console(file=io.StringIO(), width=80)
    terminal.render(record, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = ["federated, final (100)", "federated, best (75)", "pooled training (100)"]
    rows.append("each site alone")
    sets = [
        f"{name}, {method}"
        for method in ("federated", "pooled training")
        for name in ("abroad", "overseas", "pooled")
    ]
    labels = [line[3:].split("  ")[0] for line in lines if line.startswith("   ") and line.strip()]
    assert labels == [*rows, *rows, *sets]
    assert max(map(len, lines)) <= 80


def test_intervals_stand_beside_their_values(small: Any) -> None:
    record = with_everything(small)
    text = tables.to_markdown(record)
    assert "| AUROC ↑ | federated | final (2) | 0.700 [0.610, 0.790] | 10 |" in text
    assert "| AUROC ↑ | federated | best (1) | 0.750 | 10 |" in text
    assert "95 % bootstrap intervals from 100 resamples of the test patients; they cover" in text
    assert rows.sites(record)[0]["auroc_final_low"] == 0.5
    console = Console(file=io.StringIO(), width=80)
    terminal.render(record, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.700 [0.610, 0.790]" in printed
    assert "…" not in printed


def test_external_sets_have_a_table_of_their_own(small: Any) -> None:
    record = with_everything(small)
    sets = [row for row in rows.external(record) if row["metric"] == "auroc"]
    assert [(row["site"], row["method"], row["model"], row["value"]) for row in sets] == [
        ("abroad", "federated", "final", 0.65),
        ("abroad", "federated", "best", None),
        ("abroad", "pooled", "final", None),
    ]
    assert (sets[0]["low"], sets[0]["high"]) == (0.55, 0.75), "the only set is all of them"
    assert (
        "| AUROC ↑ | federated | final (2) | abroad | 0.650 [0.550, 0.750] | 8 |"
        in tables.to_markdown(record)
    )
    console = Console(file=io.StringIO(), width=100)
    terminal.render(record, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert ["abroad,", "federated", "0.650", "[0.550,", "0.750]", "8"] in [
        line.split() for line in printed.splitlines()
    ]
    record.population["external"], record.metrics = [], record.metrics[:-1]
    assert "External" not in tables.to_markdown(record)


def test_what_is_odd_about_the_data_is_said(small: Any) -> None:
    assert "more than once" not in tables.to_markdown(small)
    text = tables.to_markdown(with_everything(small))
    assert "9 images are in the data more than once, pixel for pixel: 8 of them in several" in text
    assert "(label noise): north 2." in text
    examples = [line for line in text.splitlines() if line.startswith("- ")]
    assert examples == [
        "- north, train, normal, image 3; east, test, normal, image 9",
        "- south, train, normal, image 10; south, train, normal, image 11; "
        "south, train, normal, image 12 and 1 more",
        "- south, train, normal, image 20; south, train, normal, image 21; "
        "south, train, normal, image 22 and 1 more",
    ]


def test_results_are_plain_data(small: Any) -> None:
    rows = json.loads(json.dumps(report_results(small), allow_nan=False))
    assert rows[0]["worst_site"] == "east"
    assert rows == report_results(small)


def test_terminal_takes_names_literally(small: Any) -> None:
    small.scenario["name"] = "[red]skew"
    console = Console(file=io.StringIO(), width=100)
    terminal.render(small, console)
    assert "[red]skew" in console.file.getvalue()  # type: ignore[attr-defined]


def test_who_judges_is_told_where_sites_have_models_of_their_own(small: Any) -> None:
    assert "site's own model" not in tables.to_markdown(small)
    small.scenario["client"]["personalisation"] = {"kind": "ditto"}
    assert "judged by the site's own model (`ditto`), not by the global one" in tables.to_markdown(
        small
    )
