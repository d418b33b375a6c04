"""The circumstances under which methods are compared: every combination of what is varied."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.records.study import value_name

ALONE = "base"
"""Name of the only setting of a study that varies nothing."""


@dataclass(frozen=True)
class Setting:
    """One combination.

    Args:
        name: as tables call it.
        values: by key path of the scenario.
        places: by key path: which of the values listed in the study file that is.
    """

    name: str
    values: Mapping[str, Any]
    places: Mapping[str, int]


def combine(vary: Mapping[str, Sequence[Any]]) -> tuple[Setting, ...]:
    """Return all combinations, the last key changing fastest.

    >>> [s.name for s in combine({"population.partition.alpha": [0.1, 1.0]})]
    ['population.partition.alpha=0.1', 'population.partition.alpha=1.0']
    """
    settings = []
    for places in itertools.product(*(range(len(listed)) for listed in vary.values())):
        chosen = dict(zip(vary, places, strict=True))
        values = {key: vary[key][place] for key, place in chosen.items()}
        name = ", ".join(f"{key}={value_name(value)}" for key, value in values.items())
        settings.append(Setting(name or ALONE, values, chosen))
    return tuple(settings)
