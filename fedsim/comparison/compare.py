"""From a study's runs to `comparison.json`."""

from __future__ import annotations

from typing import Any

from fedsim.comparison import costs
from fedsim.comparison.conclusions import conclusions
from fedsim.comparison.differences import TIE_BELOW, differences, planned
from fedsim.comparison.epsilons import epsilon_summary, epsilons
from fedsim.comparison.joining import join
from fedsim.comparison.outcomes import Outcome, outcomes
from fedsim.comparison.power import power_table
from fedsim.comparison.primary import Primary
from fedsim.comparison.primary_intervals import primary_intervals
from fedsim.comparison.probabilities import calibration, decision_curves
from fedsim.comparison.ranks import Ranking, rank
from fedsim.comparison.subgroups import subgroup_costs, subgroups
from fedsim.comparison.tuning import tuned
from fedsim.comparison.values import Values, values
from fedsim.comparison.worst_site import worst_site, worst_site_summary
from fedsim.comparison.yardsticks import with_yardsticks, yardsticks
from fedsim.records.study import StudyRecord

FORMAT = 1
"""Version of `comparison.json`; to be raised when older readers would misread it."""


def compare(record: StudyRecord) -> dict[str, Any]:
    """Return what the final runs of a study say together: the content of `comparison.json`.

    Cells that failed, are not there yet or cannot be read are left out, counted in `num_seeds` and
    `num_pairs`, and listed among the failures.
    """
    primary = Primary.of(record.analysis)
    runs, failures = outcomes(record)
    found = values(runs, primary, record.methods, record.settings, record.seeds)
    ranking = rank(
        found.blocks(primary.metric),
        higher_is_better=primary.higher_is_better,
        alpha=primary.alpha,
    )
    times = costs.time_to_target(runs, primary)
    worst = worst_site(runs, primary)
    bars = with_yardsticks(runs, primary)
    spent = epsilons(runs)
    content = {
        "format": FORMAT,
        "question": record.study.get("question") or "",
        "primary": _described(primary),
        "methods": list(record.methods),
        "settings": list(record.settings),
        "seeds": list(record.seeds),
        "metrics": list(found.metrics),
        "values": found.rows(),
        "summary": found.summary(primary.confidence),
        "primary_intervals": _intervals(runs, found, primary),
        "differences": differences(found, primary),
        **_ranks(record.methods, ranking),
        "time_to_target": times,
        "time_summary": costs.time_summary(times),
        "traffic": costs.traffic(runs),
        "worst_site": worst,
        "worst_site_summary": worst_site_summary(worst, primary.confidence),
        "yardsticks": yardsticks(runs, bars, found.metrics, primary),
        "epsilons": spent,
        "epsilon_summary": epsilon_summary(spent),
        "subgroups": subgroups(runs, primary),
        "subgroup_costs": subgroup_costs(runs, primary),
        "join": join(runs, bars, primary),
        "calibration": calibration(runs, primary.confidence),
        "decision_curves": decision_curves(runs, primary.confidence),
        "tuned": tuned(record, primary),
        "failures": failures,
        "power": _power(found, primary),
    }
    return {**content, "sentences": conclusions(content)}


def foresee(record: StudyRecord) -> dict[str, Any]:
    """Return what the planned seeds can show, from the spread of the final runs or of a pilot.

    Args:
        record: of the study; where it has no final cells those of the pilot count.

    Returns:
        As `fedsim.comparison.power.power_table`.
    """
    primary = Primary.of(record.analysis)
    purposes = {cell.purpose for cell in record.cells}
    runs, _ = outcomes(record, "final" if "final" in purposes else "pilot")
    seeds = tuple(sorted({run.seed for run in runs}))
    found = values(runs, primary, record.methods, record.settings, seeds)
    return _power(found, primary, len(record.seeds))


def _described(primary: Primary) -> dict[str, Any]:
    return {
        "metric": primary.metric,
        "split": primary.split,
        "pooled": primary.pooled,
        "model": primary.model,
        "reference": primary.reference,
        "smallest_difference_of_interest": primary.smallest_difference,
        "higher_is_better": primary.higher_is_better,
        "target": primary.target,
        "confidence": primary.confidence,
        "power": primary.power,
        "test": "paired t",
        "correction": "Holm",
        "tie_below": TIE_BELOW,
        "confirmatory": primary.confirmatory and list(primary.confirmatory),
    }


def _intervals(runs: list[Outcome], found: Values, primary: Primary) -> list[dict[str, Any]]:
    means = {
        (row["setting"], row["method"]): row["mean"]
        for row in found.summary(primary.confidence)
        if row["metric"] == primary.metric
    }
    return [
        {**row, "mean": means[setting, row["method"]]}
        for setting in found.settings
        for own in [[run for run in runs if run.setting == setting]]
        for row in primary_intervals(own, primary, setting, found.methods)
    ]


def _ranks(methods: tuple[str, ...], ranking: Ranking) -> dict[str, Any]:
    return {
        "ranks": [
            {"method": method, "mean_rank": mean}
            for method, mean in zip(methods, ranking.mean_ranks, strict=False)
        ],
        "critical_difference": ranking.critical_difference,
        "rank_blocks": ranking.num_blocks,
        "rank_p": ranking.p,
        "rank_note": ranking.note,
    }


def _power(found: Values, primary: Primary, num_seeds: int | None = None) -> dict[str, Any]:
    return power_table(
        {
            (setting, method): found.differences(setting, method, primary.reference, primary.metric)
            for setting, method in planned(found, primary)
        },
        num_seeds=len(found.seeds) if num_seeds is None else num_seeds,
        smallest_difference=primary.smallest_difference,
        alpha=primary.alpha,
        power=primary.power,
    )
