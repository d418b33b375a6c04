"""Should my hospital join? What each site gains, and how often it is harmed.

Gains are oriented: above zero the federation is better, also for a loss. A hospital is harmed in a
seed if the federation's model is worse on its own test images than the one it trained alone. With
private methods there may be two such models (`fedsim.comparison.yardsticks`): a method is held
against each that promises no more than it does. Sites are those that count in all runs of a setting
and seed. Where the seed draws the partition, the site of one name is another hospital in every
seed, and the interval is that of a hospital drawn like this; the rows of site "pooled" are over all
sites. These intervals are not corrected for their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.estimates import estimate, share_interval
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary
from fedsim.comparison.yardsticks import Bars, bar, costs_no_more, training
from fedsim.data.source import POOLED


def join(runs: Sequence[Outcome], bars: Bars, primary: Primary) -> list[dict[str, Any]]:
    """Return what a site gains from the federation, per setting, method, way to be alone and site.

    A last row of each, of site "pooled", is over all sites: the mean gain and the share of
    harmed sites of each seed, and then their means over seeds. The interval of the share counts a
    seed once, however many sites it has, as sites of one run are not independent.

    Args:
        runs: all of them.
        bars: of `with_yardsticks`.
        primary: what is compared.
    """
    count = {block: common_sites(found) for block, found in by_block(runs).items()}
    groups: dict[tuple[str, str, bool], list[_Pair]] = {}
    for run in runs:
        for private in (True, False):
            alone = bar(bars.get(run.block, ()), "local", private=private)
            if alone is not None and costs_no_more(run, alone):
                pair = _Pair(run, alone, bar(bars[run.block], "pooled"), count[run.block])
                groups.setdefault((run.setting, run.method, private), []).append(pair)
    return [
        row
        for (setting, method, private), pairs in groups.items()
        for row in _join(
            pairs,
            {"setting": setting, "method": method, **training(pairs[0].alone, private)},
            primary,
        )
    ]


@dataclass(frozen=True)
class _Pair:
    """A run, the runs whose yardsticks it is held against, and the sites that count."""

    run: Outcome
    alone: Outcome
    pooled: Outcome | None
    sites: Sequence[str]


def _join(
    pairs: Sequence[_Pair], front: Mapping[str, Any], primary: Primary
) -> Iterator[dict[str, Any]]:
    alone: dict[str, dict[int, float]] = {}
    pooled: dict[str, dict[int, float]] = {}
    sizes: dict[str, list[int]] = {}
    for pair in pairs:
        run = pair.run
        for site in (name for name in pair.sites if name in run.num_train):
            sizes.setdefault(site, []).append(run.num_train[site])
            for kind, theirs, gains in (
                ("local", pair.alone, alone),
                ("pooled", pair.pooled, pooled),
            ):
                gain = _gain(run, theirs, kind, site, primary.metric) if theirs else None
                if gain is not None:
                    gains.setdefault(site, {})[run.seed] = gain
    for site, by_seed in alone.items():
        found = estimate(by_seed.values(), primary.confidence)
        num_harmed = sum(gain < 0 for gain in by_seed.values())
        harm = num_harmed / len(by_seed)
        low, high = share_interval(harm, len(by_seed), primary.confidence)
        yield {
            **front,
            "site": site,
            "num_train": estimate(sizes[site]).mean,
            "num_seeds": found.num,
            "gain_over_alone": found.mean,
            "low": found.low,
            "high": found.high,
            "gain_over_pooled": estimate(pooled.get(site, {}).values()).mean,
            "probability_of_harm": harm,
            "harm_low": low,
            "harm_high": high,
        }
    if alone:
        yield {**front, **_over_all(alone, pooled, sizes, primary.confidence)}


def _over_all(
    alone: Mapping[str, Mapping[int, float]],
    pooled: Mapping[str, Mapping[int, float]],
    sizes: Mapping[str, Sequence[int]],
    confidence: float,
) -> dict[str, Any]:
    by_seed = _by_seed(alone)
    gain = estimate((sum(gains) / len(gains) for gains in by_seed), confidence)
    harm = sum(sum(g < 0 for g in gains) / len(gains) for gains in by_seed) / len(by_seed)
    harm_low, harm_high = share_interval(harm, len(by_seed), confidence)
    over = estimate(sum(gains) / len(gains) for gains in _by_seed(pooled))
    return {
        "site": POOLED,
        "num_train": estimate([size for found in sizes.values() for size in found]).mean,
        "num_seeds": gain.num,
        "gain_over_alone": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "gain_over_pooled": over.mean,
        "probability_of_harm": harm,
        "harm_low": harm_low,
        "harm_high": harm_high,
    }


def _by_seed(gains: Mapping[str, Mapping[int, float]]) -> list[list[float]]:
    """Return the gains of all sites, seed by seed."""
    seeds = sorted({seed for own in gains.values() for seed in own})
    return [[own[seed] for own in gains.values() if seed in own] for seed in seeds]


def _gain(run: Outcome, other: Outcome, kind: str, site: str, metric: str) -> float | None:
    """Return by how much the federation is better than a yardstick on a site's images."""
    ours, theirs = run.scores.get((site, metric)), other.yardsticks.get((kind, site, metric))
    if ours is None or theirs is None:
        return None
    return ours - theirs if METRICS[metric].higher_is_better else theirs - ours
