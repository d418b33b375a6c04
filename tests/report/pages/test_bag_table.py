"""How many bags there are in each setting of a study, how many are pure, how many validate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedsim.records import RunRecord
from fedsim.report.study.ground_tables import bags
from fedsim.scenario import Scenario, load_scenario, open_population

Make = Callable[..., Scenario]


def run(**knowledge: Any) -> RunRecord:
    return SimpleNamespace(population={"knowledge": knowledge})  # type: ignore[return-value]


def site(train: int, pure: int | None, validation: int, size: int = 4) -> dict[str, Any]:
    found = {"smallest": size, "largest": size + 1}
    return {
        "knows": "bags",
        "bags": {
            "train": {**found, "num_bags": train, "num_pure": pure},
            "validation": {**found, "num_bags": validation, "num_pure": pure},
        },
    }


def test_bags_are_counted_over_sites_and_methods_with_the_same_share_a_row() -> None:
    same = run(a=site(30, 9, 7), b=site(10, 3, 2), c={"knows": "nothing", "bags": {}})
    runs = {
        ("bag", "x.bag_size=4"): same,
        ("instance", "x.bag_size=4"): same,
        ("others", "x.bag_size=4"): run(a=site(5, 0, 1, size=16)),
        ("labelled", "x.bag_size=4"): run(),
    }
    table = bags(runs)
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["bag_size=4", "bag, instance", "2", "40", "4 to 5", "12 (30 %)", "9", "2"],
        ["bag_size=4", "others", "1", "5", "16 to 17", "0 (0 %)", "1", "1"],
    ]


def test_means_of_numbers_are_never_pure_and_without_bags_there_is_no_table() -> None:
    table = bags({("bag", "base"): run(a=site(30, None, 7))})
    assert table is not None
    assert table.rows[0][5].key is None
    assert bags({("labelled", "base"): run()}) is None


def test_of_real_films_in_bags_of_4_the_31_percent_that_chance_gives_are_pure(
    data_folder: Path,
) -> None:
    """74 % of the films show pneumonia: 0.74^4 + 0.26^4 = 0.31, where sites are alike."""
    changes = ["population.supervision.0.bag_size=4", "population.partition={kind: iid}"]
    base = load_scenario(Path(__file__).parents[3] / "scenarios" / "bags.yaml", changes)
    population = open_population(base)
    table = bags({("bag", "base"): run(**population.knowledge_table())})
    assert table is not None
    (row,) = table.rows
    num, pure = row[3].key, row[5].key
    assert num > 1000
    assert pure / num == pytest.approx(0.31, abs=0.04)  # 3 standard errors
    assert row[6].key > 100
