"""Bootstrap intervals of the primary metric, and of its difference to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clients.counted import counted_values
from fedsim.comparison.bootstrap import Floats, Ints, draw_units, left_rate, over_seeds, percentiles
from fedsim.comparison.outcomes import Outcome, common_sites, together
from fedsim.comparison.primary import Primary
from fedsim.records.read import Predicted
from fedsim.seeds import Streams

NUM_RESAMPLES = 500


def primary_intervals(
    runs: Sequence[Outcome],
    primary: Primary,
    setting: str,
    methods: Sequence[str],
    num_resamples: int = NUM_RESAMPLES,
) -> list[dict[str, Any]]:
    """Return the bootstrap interval of each method and of its difference to the reference.

    Args:
        runs: of one setting.
        primary: what is compared.
        setting: its name.
        methods: names, in the order of the rows.
        num_resamples: how many.
    """
    runs = [run for run in runs if run.predictions]
    seeds = sorted({run.seed for run in runs})
    if not seeds:
        return []
    unit, codes = _numbered(runs, seeds)
    streams = Streams(0)
    units = draw_units(
        _left(runs, codes), num_resamples, streams.numpy(f"comparison images {setting}")
    )
    sites = {seed: common_sites([run for run in runs if run.seed == seed]) for seed in seeds}
    resampled = {name: np.full((len(seeds), num_resamples), np.nan) for name in methods}
    for run, own in zip(runs, codes, strict=True):
        groups = [tuple(own)] if primary.pooled else [(site,) for site in sites[run.seed]]
        resampled[run.method][seeds.index(run.seed)] = _values(
            run, primary.metric, groups, own, units
        )

    def interval(values: Floats) -> tuple[float | None, float | None]:
        there = values[~np.isnan(values).all(axis=1)]
        rng = streams.numpy(f"comparison seeds {setting}", num=len(there))
        return percentiles(over_seeds(there, primary.confidence, rng), primary.confidence)

    rows = []
    for name, values in resampled.items():
        low, high = interval(values)
        below, above = interval(values - resampled[primary.reference])
        rows.append(
            {
                "setting": setting,
                "method": name,
                "low": low,
                "high": high,
                "difference_low": None if name == primary.reference else below,
                "difference_high": None if name == primary.reference else above,
                "num_seeds": int((~np.isnan(values).all(axis=1)).sum()),
                "num_resamples": num_resamples,
                "unit": unit,
            }
        )
    return rows


def _numbered(runs: Sequence[Outcome], seeds: Sequence[int]) -> tuple[str, list[dict[str, Ints]]]:
    """Return what is drawn, and for each run and site the number of each image's unit.

    Numbers go from 0 without gaps. Where a run did not record its units, the images of a seed are
    told apart by their place, and those of two seeds are different ones.
    """
    known = all(run.units for run in runs)
    most = max(sum(len(labels) for _, labels in run.predictions.values()) for run in runs)
    raw = [
        {site: run.units[site] for site in run.predictions}
        if known
        else _by_place(run.predictions, most * seeds.index(run.seed))
        for run in runs
    ]
    every = np.unique(np.concatenate([own for by_site in raw for own in by_site.values()]))
    coded = [{s: np.searchsorted(every, own) for s, own in by_site.items()} for by_site in raw]
    return (runs[0].unit if known else "image"), coded


def _left(runs: Sequence[Outcome], codes: Sequence[Mapping[str, Ints]]) -> Floats:
    by_seed: dict[int, list[Ints]] = {}
    for run, own in zip(runs, codes, strict=True):
        by_seed.setdefault(run.seed, []).extend(own.values())
    units = [np.concatenate(found) for found in by_seed.values()]
    return left_rate(units, 1 + max(int(found.max()) for found in units))


def _by_place(predictions: Mapping[str, Predicted], begin: int) -> dict[str, Ints]:
    sizes = [len(labels) for _, labels in predictions.values()]
    ends = begin + np.cumsum([0, *sizes])
    return {
        site: np.arange(start, end)
        for site, start, end in zip(predictions, ends[:-1], ends[1:], strict=True)
    }


def _values(
    run: Outcome,
    metric: str,
    groups: Sequence[Sequence[str]],
    codes: Mapping[str, Ints],
    units: Ints,
) -> Floats:
    """Return the mean over groups of sites of one run's metric in each resample, (resample,)."""
    if not groups:
        return np.full(len(units), np.nan)
    found = [
        counted_values(
            *together([run.predictions[site] for site in group]),
            units[:, np.concatenate([codes[site] for site in group])],
            metric,
            run.task,
            run.positive,
        )
        for group in groups
    ]
    mean: Floats = np.mean(found, axis=0)
    return mean
