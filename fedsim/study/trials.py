"""Which values the tuning tries: points that fill the search space evenly, the same every time.

The points are a scrambled Halton sequence (Owen 2017, arXiv:1706.02808, as scipy has it): more
trials only add to those that are there. Methods that tune equally many keys get the same points of
the unit cube, so none is luckier than another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedsim.scenario import Scenario
from fedsim.scenario.expectation import of
from fedsim.seeds import Streams
from fedsim.study.study_file import Range, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STREAM_SEED = 0
"""The trials are part of the study's design, not of its seeds."""
DIGITS = 4
"""Significant ones of a number that is drawn: enough to search, few enough to read."""
MAX_DRAWS = 100
"""Points for each trial, until a space of few values counts as exhausted."""


def draw(
    spaces: Mapping[str, Space], scenario: Mapping[str, Any], num: int
) -> list[dict[str, Any]]:
    """Return the values of the trials after the first, which is the method as it is set.

    Args:
        spaces: what is searched, by key path.
        scenario: of the method as it is set, resolved.
        num: how many are wanted; spaces of few values may hold fewer.
    """
    start = {key: look_up(scenario, key) for key in spaces}
    whole = {key: _takes_whole_numbers(scenario, key) for key in spaces}
    found: list[dict[str, Any]] = []
    for point in _points(len(spaces), MAX_DRAWS * num) if num else ():
        values = {
            key: _value(space, float(at), whole[key])
            for at, (key, space) in zip(point, spaces.items(), strict=True)
        }
        if values not in (start, *found):
            found.append(values)
        if len(found) == num:
            break
    return found


def without_value(spaces: Mapping[str, Space], scenario: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of intervals that hold none of the whole numbers that the scenario takes."""
    for key, space in spaces.items():
        empty = isinstance(space, Range) and math.ceil(space.low) > math.floor(space.high)
        if empty and _takes_whole_numbers(scenario, key):
            yield key


def look_up(data: Any, key: str) -> Any:
    """Return what plain data hold at a key path, None if they do not."""
    for part in key.split("."):
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and part in map(str, range(len(data))):
            data = data[int(part)]
        else:
            return None
    return data


def _points(num_keys: int, num: int) -> NDArray[np.float64]:
    """Return points of the unit cube, (point, key)."""
    from scipy.stats import qmc

    rng = Streams(STREAM_SEED).numpy("trials")
    return qmc.Halton(num_keys, scramble=True, seed=rng).random(num)  # type: ignore[no-any-return]


def _value(space: Space, at: float, whole: bool) -> Any:
    """Return the value of a space at a place between 0 and 1."""
    if not isinstance(space, Range):
        return space[int(at * len(space))]
    if whole:  # every whole number has an equal share, on either scale
        low, high = math.ceil(space.low), math.floor(space.high)
        found = round(_between(low - 0.5, high + 0.5, space.scale == "log", at))
        return min(max(found, low), high)
    return float(f"{_between(space.low, space.high, space.scale == 'log', at):.{DIGITS}g}")


def _between(low: float, high: float, log: bool, at: float) -> float:
    return float(low * (high / low) ** at) if log else low + (high - low) * at


def _takes_whole_numbers(scenario: Mapping[str, Any], key: str) -> bool:
    """Whether a key of a scenario takes whole numbers and no others."""
    expected, data = of(Scenario), scenario
    for part in key.split("."):
        listed = isinstance(data, list) and part in map(str, range(len(data)))
        step = int(part) if listed else part
        child = expected.child(step, data)
        if child is None:
            return False
        expected, data = child, look_up(data, part)
    types = {option.get("type") for option in expected.options}
    return "integer" in types and "number" not in types
