"""The values of every method, by setting, metric and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.comparison.estimates import estimate, whole_mean
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary
from fedsim.data.source import POOLED

Key = tuple[str, str, str, int]
"""Setting, method, metric and seed."""


@dataclass(frozen=True)
class Values:
    """What the final runs reached on the split and with the model that are compared.

    Args:
        methods: that were planned, in the author's order.
        settings: likewise.
        seeds: likewise.
        metrics: names, the primary one first.
        table: value by key, None where undefined; without keys of runs that are not there.
    """

    methods: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    table: Mapping[Key, float | None]

    def over_seeds(self, setting: str, method: str, metric: str) -> list[float | None]:
        """Return the values of all seeds, None where there is none."""
        return [self.table.get((setting, method, metric, seed)) for seed in self.seeds]

    def differences(
        self, setting: str, method: str, reference: str, metric: str
    ) -> NDArray[np.float64]:
        """Return method minus reference for every seed in which both have a value, (pair,)."""
        pairs = zip(
            self.over_seeds(setting, method, metric),
            self.over_seeds(setting, reference, metric),
            strict=True,
        )
        return np.array([a - b for a, b in pairs if a is not None and b is not None], np.float64)

    def blocks(self, metric: str) -> NDArray[np.float64]:
        """Return a row per setting and seed, (block, method); nan where there is no value."""
        rows = [
            [self.table.get((setting, method, metric, seed)) for method in self.methods]
            for setting in self.settings
            for seed in self.seeds
        ]
        return np.array(rows, np.float64).reshape(len(rows), len(self.methods))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per value, as plain data."""
        names = ("setting", "method", "metric", "seed")
        return [
            {**dict(zip(names, key, strict=True)), "value": value}
            for key, value in self.table.items()
        ]

    def summary(self, confidence: float) -> list[dict[str, Any]]:
        """Return mean, spread and interval over seeds, one row per setting, method and metric."""
        return [
            {"setting": setting, "method": method, "metric": metric, **found.row()}
            for metric in self.metrics
            for setting in self.settings
            for method in self.methods
            for found in [estimate(self.over_seeds(setting, method, metric), confidence)]
        ]


def values(
    runs: Sequence[Outcome],
    primary: Primary,
    methods: tuple[str, ...],
    settings: tuple[str, ...],
    seeds: tuple[int, ...],
) -> Values:
    """Return the values of some runs."""
    metrics = dict.fromkeys([primary.metric, *(name for run in runs for name in run.metrics)])
    table: dict[Key, float | None] = {}
    for block in by_block(runs).values():
        sites = (POOLED,) if primary.pooled else common_sites(block)
        for run in block:
            for metric in run.metrics:
                table[run.setting, run.method, metric, run.seed] = whole_mean(
                    [run.scores.get((site, metric)) for site in sites]
                )
    return Values(methods, settings, seeds, tuple(metrics), table)
