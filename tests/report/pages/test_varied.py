"""Figures against what a study varies: which there are, and that they show every value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fedsim.bag_advice import Assumed
from fedsim.bag_theory.bag_size import laplace_variance
from fedsim.bag_theory.linear_risk import asymptotic_risk
from fedsim.records import RunRecord
from fedsim.report.study.bag_sizes import BagSizes, of_bags
from fedsim.report.study.maps import maps
from fedsim.report.study.varied import Slice, line, slices, words

SIZE, EPSILON, KIND = "population.supervision.0.bag_size", "privacy.epsilon", "strategy.kind"
METHODS = ("reference", "other")


def settings(*keys: str) -> dict[str, dict[str, Any]]:
    values = {SIZE: (1, 4, 16), EPSILON: (0.5, 8), KIND: ("mean", "median")}
    found: list[dict[str, Any]] = [{}]
    for key in keys:
        found = [{**one, key: value} for one in found for value in values[key]]
    return {f"setting {number}": one for number, one in enumerate(found)}


def comparison(names: list[str], missing: str = "") -> dict[str, Any]:
    return {
        "primary": {"metric": "auroc", "reference": "reference"},
        "methods": METHODS,
        "summary": [
            {
                "setting": name,
                "method": method,
                "metric": "auroc",
                "mean": None if name == missing else 0.5 + number / 100,
                "low": None if name == missing else 0.4 + number / 100,
                "high": None if name == missing else 0.6 + number / 100,
            }
            for number, name in enumerate(names)
            for method in METHODS
        ],
    }


def test_a_line_for_every_number_and_what_else_is_varied() -> None:
    found = list(slices(settings(SIZE, KIND), 1))
    assert [(part.keys, part.fixed) for part in found] == [
        ((SIZE,), "kind=mean"),
        ((SIZE,), "kind=median"),
    ]
    assert [part.along(0) for part in found] == [[1, 4, 16]] * 2
    assert list(slices(settings(EPSILON, KIND), 1)) == []  # two values make no curve
    assert list(slices({"base": {}}, 1)) == []


def test_a_map_for_every_two_numbers() -> None:
    (part,) = slices(settings(SIZE, EPSILON), 2)
    assert part.keys == (SIZE, EPSILON)
    assert len(part.settings) == 6
    assert list(slices(settings(SIZE, KIND), 2)) == []


@pytest.mark.parametrize("missing", ["", "setting 1"])
def test_lines_show_all_methods_and_values(missing: str) -> None:
    varied = settings(SIZE)
    (part,) = slices(varied, 1)
    content = comparison(list(varied), missing)
    axes = line(part, content, "study").axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16"]
    assert len(axes.containers) == len(METHODS)
    shown = axes.containers[0].lines[0].get_ydata().tolist()
    assert shown[0] == pytest.approx(0.5)
    assert shown[2] == pytest.approx(0.52)
    assert "reference: 0.500 at 1" in words(part, content)


@pytest.mark.parametrize("missing", ["", "setting 5"])
def test_maps_show_all_methods_and_frame_the_best(missing: str) -> None:
    varied = settings(SIZE, EPSILON)
    (part,) = slices(varied, 2)
    figure = maps(part, comparison(list(varied), missing), "study")
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == list(METHODS)
    texts = {text.get_text() for text in visible[0].texts}
    assert len(texts) == 6 - bool(missing)
    (frame,) = [patch for patch in visible[0].patches if patch.get_width() == 1]
    assert frame.get_xy() == ((2, 0) if missing else (2, 1))


def test_nothing_defined_is_no_failure() -> None:
    part = Slice((SIZE, EPSILON), "", {"a": (1.0, 2.0)})
    content = comparison(["a"], "a")
    assert maps(part, content, "study").axes


LABEL_EPSILON = "population.supervision.0.label_privacy.epsilon"


def private(*keys: str) -> dict[str, dict[str, Any]]:
    values = {SIZE: (1, 4, 16), LABEL_EPSILON: (0.5, 8)}
    return {
        f"{first} {second}": {keys[0]: first, keys[1]: second}
        for first in values[keys[0]]
        for second in values[keys[1]]
    }


def run(epsilon: float, objective: dict[str, Any], kind: str = "bags") -> RunRecord:
    """Return what a page reads of a run with 200 examples in bags."""
    entry = {
        "kind": "bags",
        "bag_size": 4,
        "label_privacy": {"kind": "laplace", "epsilon": epsilon},
    }
    scenario = {
        "population": {"supervision": [entry if kind == "bags" else {"kind": "labels"}]},
        "client": {"objective": objective},
    }
    population = {
        "class_names": ["no", "yes"],
        "images": {"num_channels": 1, "image_size": 4},
        "sites": [{"name": "a", "train": [100, 100]}, {"name": "b", "train": [70, 70]}],
        "knowledge": {"a": {"knows": kind}},
    }
    return SimpleNamespace(scenario=scenario, population=population)  # type: ignore[return-value]


def study(
    varied: dict[str, dict[str, Any]], objectives: dict[str, tuple[dict[str, Any], str]]
) -> dict[tuple[str, str], RunRecord]:
    return {
        (method, setting): run(values[LABEL_EPSILON], objective, kind)
        for setting, values in varied.items()
        for method, (objective, kind) in objectives.items()
    }


@pytest.mark.parametrize("keys", [(SIZE, LABEL_EPSILON), (LABEL_EPSILON, SIZE)])
def test_the_best_bag_size_at_each_epsilon_is_marked_as_measured_and_by_theory(
    keys: tuple[str, str],
) -> None:
    varied = private(*keys)
    (part,) = slices(varied, 2)
    objectives = {
        "reference": ({"kind": "instance", "criterion": "squared"}, "bags"),
        "other": ({"kind": "forward_corrected"}, "labels"),
    }
    assumed = Assumed(signal=0.1, noise=0.1, num_dimensions=10)
    sizes = of_bags(part, study(varied, objectives), assumed)
    assert sizes is not None
    for epsilon, best in sizes.by_theory["reference"].items():
        noise = laplace_variance(epsilon, 1.0)
        risks = {
            k: asymptotic_risk(k, 1.0, ratio=20, signal=0.1, noise=0.1 + noise / k).total
            for k in (1, 4, 16)
        }
        assert best == min(risks, key=lambda k: risks[k])
    assert list(sizes.by_theory) == ["reference"]  # labels are in no bags
    assert sizes.by_theory["reference"] == {0.5: 4.0, 8.0: 1.0}
    assert "reference: 4 at epsilon 0.5, 1 at epsilon 8" in sizes.words()
    assert "label-DP at each site, which hides that one image's label is another one" in sizes.note
    assert "assumed are signal 0.1, noise 0.1 and 10 dimensions" in sizes.note
    figure = maps(part, comparison(list(varied)), "study", sizes)
    shown = figure.axes[0]
    frames = {patch.get_xy() for patch in shown.patches if patch.get_width() == 1}
    diamonds = {(int(mark.get_xdata()[0]), int(mark.get_ydata()[0])) for mark in shown.lines}
    across = {(1, 0), (0, 1)}  # (size, epsilon) of 4 at 0.5 and of 1 at 8
    assert diamonds == (across if keys[0] == SIZE else {(y, x) for x, y in across})
    best = {(2, 0), (2, 1)}  # the last of the sizes, see `comparison`
    assert frames == (best if keys[0] == SIZE else {(y, x) for x, y in best})
    assert not figure.axes[1].lines


def test_where_the_bag_size_changes_nothing_none_is_framed() -> None:
    varied = private(SIZE, LABEL_EPSILON)
    (part,) = slices(varied, 2)
    content = comparison(list(varied))
    for row in content["summary"]:
        row["mean"] = varied[row["setting"]][LABEL_EPSILON] / 10
    sizes = BagSizes(axis=1, note="")
    for axes in maps(part, content, "study", sizes).axes[: len(METHODS)]:
        assert not [patch for patch in axes.patches if patch.get_width() == 1]


def test_without_assumptions_theory_says_nothing_and_other_maps_are_as_they_were() -> None:
    varied = private(SIZE, LABEL_EPSILON)
    (part,) = slices(varied, 2)
    runs = study(varied, {"reference": ({"kind": "bag"}, "bags")})
    sizes = of_bags(part, runs, None)
    assert sizes == BagSizes(1, sizes.note if sizes else "")
    assert sizes.words() == ""
    assert "theory" not in sizes.note
    (other,) = slices(settings(SIZE, EPSILON), 2)
    assert of_bags(other, {}, None) is None
    silent = of_bags(part, runs, Assumed(0.1, 0.1, num_dimensions=200))
    assert silent is not None
    assert silent.by_theory == {}
