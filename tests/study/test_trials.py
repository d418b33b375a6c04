"""What the tuning tries: evenly spread, the same every time, as much for every method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fedsim.study.study_file import Range
from fedsim.study.trials import draw, look_up

RATE, KEEP = "client.optimizer.learning_rate", "client.epochs"


@pytest.fixture
def scenario(base: dict[str, Any]) -> dict[str, Any]:
    return base


def test_the_same_space_gives_the_same_trials(scenario: dict[str, Any]) -> None:
    space = {RATE: Range(low=1e-4, high=1e-2, scale="log")}
    assert draw(space, scenario, 7) == draw(space, scenario, 7)


def test_more_trials_only_add_to_those_that_are_there(scenario: dict[str, Any]) -> None:
    space = {RATE: Range(low=1e-4, high=1e-2, scale="log"), KEEP: [1, 2, 3]}
    assert draw(space, scenario, 20)[:7] == draw(space, scenario, 7)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_every_part_of_a_range_is_tried(scenario: dict[str, Any], scale: Any) -> None:
    space = {RATE: Range(low=0.001, high=1.0, scale=scale)}
    values = [trial[RATE] for trial in draw(space, scenario, 16)]
    place = [math.log10(v) / 3 + 1 if scale == "log" else (v - 0.001) / 0.999 for v in values]
    counts, _ = np.histogram(place, bins=4, range=(0, 1))
    assert counts.tolist() == [4, 4, 4, 4]


def test_methods_with_as_many_keys_are_tried_at_the_same_points(scenario: dict[str, Any]) -> None:
    log = Range(low=0.001, high=1.0, scale="log")
    one = draw({RATE: log}, scenario, 5)
    other = draw({"strategy.rate": log}, scenario, 5)
    assert [t[RATE] for t in one] == [t["strategy.rate"] for t in other]


def test_whole_numbers_are_tried_where_the_scenario_takes_nothing_else(
    scenario: dict[str, Any],
) -> None:
    values = [t[KEEP] for t in draw({KEEP: Range(low=1, high=4)}, scenario, 9)]
    assert all(type(value) is int for value in values)
    assert sorted(values) == [2, 3, 4]  # 1 is what the scenario has, and was the first trial
    rates = [t[RATE] for t in draw({RATE: Range(low=1, high=4)}, scenario, 9)]
    assert len(set(rates)) == 9


def test_a_space_of_few_values_ends(scenario: dict[str, Any]) -> None:
    found = draw({KEEP: [1, 2], "client.batch_size": [8, 16]}, scenario, 50)
    assert {tuple(t.values()) for t in found} == {(1, 8), (2, 8), (2, 16)}


def test_values_at_a_path_are_found(scenario: dict[str, Any]) -> None:
    assert look_up(scenario, "model.widths.0") == 8
    assert look_up(scenario, "model.widths.7") is None
    assert look_up(scenario, "model.kind.0") is None
