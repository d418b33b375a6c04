"""Should my hospital join? What each site gains, and how often it is harmed.

Gains are oriented: above zero the federation is better, also for a loss. A hospital is harmed in a
seed if the federation's model is worse on its own test images than the one it trained alone. Sites
are those that count in all runs of a setting and seed. Where the seed draws the partition, the site
of one name is another hospital in every seed, and the interval is that of a hospital drawn like
this; the rows of site "pooled" are over all sites. These intervals are not corrected for their
number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.estimates import estimate, share_interval
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary
from fedsim.comparison.yardsticks import Block
from fedsim.data.source import POOLED


def join(
    runs: Sequence[Outcome], bars: Mapping[Block, Outcome], primary: Primary
) -> list[dict[str, Any]]:
    """Return what a site gains from the federation, per setting, method and site.

    A last row of each method, of site "pooled", is over all sites: the mean gain and the share of
    harmed sites of each seed, and then their means over seeds. The interval of the share counts a
    seed once, however many sites it has, as sites of one run are not independent.

    Args:
        runs: all of them.
        bars: of `with_yardsticks`.
        primary: what is compared.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for run in runs:
        if run.block in bars:
            groups.setdefault((run.setting, run.method), []).append(run)
    count = {block: common_sites(found) for block, found in by_block(runs).items()}
    return [row for found in groups.values() for row in _join(found, bars, count, primary)]


def _join(
    runs: Sequence[Outcome],
    bars: Mapping[Block, Outcome],
    count: Mapping[Block, Sequence[str]],
    primary: Primary,
) -> Iterator[dict[str, Any]]:
    alone: dict[str, dict[int, float]] = {}
    pooled: dict[str, dict[int, float]] = {}
    sizes: dict[str, list[int]] = {}
    for run in runs:
        for site in (name for name in count[run.block] if name in run.num_train):
            sizes.setdefault(site, []).append(run.num_train[site])
            for kind, gains in (("local", alone), ("pooled", pooled)):
                gain = _gain(run, bars[run.block], kind, site, primary.metric)
                if gain is not None:
                    gains.setdefault(site, {})[run.seed] = gain
    front = {"setting": runs[0].setting, "method": runs[0].method}
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


def _gain(run: Outcome, bar: Outcome, kind: str, site: str, metric: str) -> float | None:
    """Return by how much the federation is better than a yardstick on a site's images."""
    ours, theirs = run.scores.get((site, metric)), bar.yardsticks.get((kind, site, metric))
    if ours is None or theirs is None:
        return None
    return ours - theirs if METRICS[metric].higher_is_better else theirs - ours
