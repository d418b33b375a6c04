"""Does a method do worse for some patients than for others?

The primary metric on the test images of all sites that have one value of an attribute (sex, age
band, scanner), of the model that is compared; and in each seed the gap between the best and the
worst group. A gap of noisy values is above zero where there is none, and grows with their noise,
which is larger for an AUROC of 0.75 than for one of 0.95: it may be compared between methods of a
similar level alone. What a method changes for whom is said by signed differences, which noise does
not move: method minus reference within a group, and that of a group minus that of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np

from clients.metrics import evaluate
from fedsim.comparison.estimates import estimate
from fedsim.comparison.outcomes import Outcome, together
from fedsim.comparison.primary import Primary
from fedsim.data.source import in_natural_order


def subgroups(runs: Iterable[Outcome], primary: Primary) -> list[dict[str, Any]]:
    """Return mean and interval over seeds of each group, then of the gap, whose group is None.

    Args:
        runs: all of them; those whose images have no attributes are left out.
        primary: says which metric.
    """
    values: dict[tuple[str, str, str], dict[str | None, list[float | None]]] = {}
    for run in runs:
        for attribute in run.attributes if run.predictions else ():
            found = of_groups(run, attribute, primary.metric)
            row = values.setdefault((run.setting, run.method, attribute), {})
            for group, value in [*found.items(), (None, gap(found.values()))]:
                row.setdefault(group, []).append(value)
    return [
        {
            "setting": setting,
            "method": method,
            "attribute": attribute,
            "group": group,
            **estimate(groups[group], primary.confidence).row(),
        }
        for (setting, method, attribute), groups in values.items()
        for group in [*in_natural_order(name for name in groups if name is not None), None]
    ]


def subgroup_costs(runs: Iterable[Outcome], primary: Primary) -> list[dict[str, Any]]:
    """Return what a method changes for each group, and how much more than for another.

    Rows without `versus` are of method minus reference in the group, of pairs with the same seed;
    those with it are of this difference minus that of the group `versus`, for every pair of groups.
    Intervals are Student's t over seeds, not corrected for their number.

    Args:
        runs: all of them; those whose images have no attributes are left out.
        primary: says which metric and reference.
    """
    found = {
        (run.setting, attribute, run.method, run.seed): of_groups(run, attribute, primary.metric)
        for run in runs
        for attribute in (run.attributes if run.predictions else ())
    }
    costs: dict[tuple[str, str, str], list[dict[str, float | None]]] = {}
    for (setting, attribute, method, seed), ours in found.items():
        theirs = found.get((setting, attribute, primary.reference, seed))
        if method != primary.reference and theirs is not None:
            groups = {
                group: _minus(ours[group], theirs[group]) for group in ours if group in theirs
            }
            costs.setdefault((setting, method, attribute), []).append(groups)
    rows = []
    for (setting, method, attribute), by_seed in costs.items():
        names = in_natural_order({name for one in by_seed for name in one})
        for group, versus in [*((name, None) for name in names), *combinations(names, 2)]:
            values = [
                one.get(group) if versus is None else _minus(one.get(group), one.get(versus))
                for one in by_seed
            ]
            rows.append(
                {
                    "setting": setting,
                    "method": method,
                    "attribute": attribute,
                    "group": group,
                    "versus": versus,
                    **estimate(values, primary.confidence).row(),
                }
            )
    return rows


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def of_groups(run: Outcome, attribute: str, metric: str) -> dict[str, float | None]:
    """Return the metric on the images of each group; None where it is not defined."""
    sites = list(run.predictions)
    scores, labels = together([run.predictions[site] for site in sites])
    known = np.concatenate([np.array(run.attributes[attribute][site], str) for site in sites])
    found = {}
    for group in in_natural_order(set(known[known != ""].tolist())):
        of_it = known == group
        value = evaluate(scores[of_it], labels[of_it], (metric,), run.task, run.positive)
        found[group] = value[metric].value
    return found


def gap(values: Iterable[float | None]) -> float | None:
    """Return by how much the largest is above the smallest; None if any is undefined."""
    found = list(values)
    defined = [value for value in found if value is not None]
    return max(defined) - min(defined) if defined and len(defined) == len(found) else None
