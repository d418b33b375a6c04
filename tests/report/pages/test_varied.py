"""Figures against what a study varies: which there are, and that they show every value."""

from __future__ import annotations

from typing import Any

import pytest

from fedsim.report.study.varied import Slice, line, maps, slices, words

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
