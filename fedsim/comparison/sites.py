"""Sites: the worst one, the yardsticks, and whether a hospital should join.

All runs of a setting and seed are looked at on the sites that count in every one of them: enough
test images of every class, so that a worst site is one that does badly, not one with three images.
The worst of several noisy values is lower than the worst of their means: compare it between
methods, and do not read it as what one hospital should expect.

Yardsticks (pooled training, each site alone) of a setting and seed are those of the reference's
run, or of the first method whose run has them, so that all methods are held against the same ones.
They have that method's objective, optimiser and number of steps.

Gains are oriented: above zero the federation is better, also for a loss. A hospital is harmed in a
seed if the federation's model is worse on its own test images than the one it trained alone. Where
the seed draws the partition, the site of one name is another hospital in every seed, and the
interval is that of a hospital drawn like this; the rows of site "pooled" are over all sites. These
intervals are not corrected for their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.estimates import estimate, share_interval
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary
from fedsim.data.source import POOLED

KINDS = ("pooled", "local")
Block = tuple[str, int]


def worst_site(runs: Iterable[Outcome], primary: Primary) -> list[dict[str, Any]]:
    """Return a row per run: the worst of the sites that count; None if any value is undefined."""
    worst_of = min if primary.higher_is_better else max
    rows = []
    for block in by_block(runs).values():
        sites = common_sites(block)
        for run in block:
            found = {site: run.scores.get((site, primary.metric)) for site in sites}
            defined = {site: value for site, value in found.items() if value is not None}
            whole = bool(found) and len(defined) == len(found)
            site = worst_of(defined, key=defined.__getitem__) if whole else None
            rows.append(
                {
                    "setting": run.setting,
                    "method": run.method,
                    "seed": run.seed,
                    "site": site,
                    "value": defined[site] if site is not None else None,
                    "num_sites": len(sites),
                }
            )
    return rows


def worst_site_summary(
    rows: Iterable[Mapping[str, Any]], confidence: float
) -> list[dict[str, Any]]:
    """Return the mean over seeds of the worst site's value, per setting and method."""
    groups: dict[tuple[str, str], list[float | None]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["method"]), []).append(row["value"])
    return [
        {
            "setting": setting,
            "method": method,
            "num_seeds": found.num,
            "mean": found.mean,
            "sd": found.sd,
            "low": found.low,
            "high": found.high,
        }
        for (setting, method), values in groups.items()
        for found in [estimate(values, confidence)]
    ]


def with_yardsticks(runs: Iterable[Outcome], primary: Primary) -> dict[Block, Outcome]:
    """Return for each setting and seed the run whose yardsticks count, where there is one."""
    return {
        block: having[0]
        for block, found in by_block(runs).items()
        if (
            having := sorted(
                (run for run in found if run.yardsticks),
                key=lambda run: run.method != primary.reference,
            )
        )
    }


def yardsticks(
    bars: Mapping[Block, Outcome], metrics: Sequence[str], primary: Primary
) -> list[dict[str, Any]]:
    """Return mean and interval over seeds of each yardstick on the images of all sites together.

    Args:
        bars: of `with_yardsticks`.
        metrics: names.
        primary: says the confidence.
    """
    rows = []
    for setting in dict.fromkeys(setting for setting, _ in bars):
        own = [run for (where, _), run in bars.items() if where == setting]
        for kind in KINDS:
            for metric in metrics:
                found = estimate(
                    (run.yardsticks.get((kind, POOLED, metric)) for run in own), primary.confidence
                )
                if found.num:
                    rows.append(
                        {
                            "setting": setting,
                            "yardstick": kind,
                            "metric": metric,
                            "num_seeds": found.num,
                            "mean": found.mean,
                            "sd": found.sd,
                            "low": found.low,
                            "high": found.high,
                        }
                    )
    return rows


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
