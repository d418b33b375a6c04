"""Which trial a method goes into the comparison with: judged by validation images alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from clients.metrics import METRICS
from fedsim.study.cells import PlannedCell


def choose(
    cells: Sequence[PlannedCell], values: Mapping[str, float | None], metric: str
) -> int | None:
    """Return the number of the best trial, the first of equal ones; None if none finished.

    A trial counts if all of its cells have a value, by their mean over seeds.

    Args:
        cells: the trials of one method in one setting.
        values: by name of the cell; failed ones are None or missing.
        metric: of the values.
    """
    by_trial: dict[int, list[float | None]] = {}
    for cell in cells:
        assert cell.trial is not None
        by_trial.setdefault(cell.trial, []).append(values.get(cell.name))
    means = {
        trial: statistics.fmean(defined)
        for trial, found in by_trial.items()
        if len(defined := [value for value in found if value is not None]) == len(found)
    }
    sign = 1 if METRICS[metric].higher_is_better else -1
    return max(means, key=lambda trial: (sign * means[trial], -trial), default=None)
