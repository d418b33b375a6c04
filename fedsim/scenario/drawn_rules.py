"""What a scenario cannot ask of sites that draw their examples when they are looked at."""

from __future__ import annotations

from collections.abc import Iterator

from fedsim.data.resampled import Resampled
from fedsim.scenario.cohort import AllSites, Cyclic
from fedsim.scenario.messages import Problem
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.yaml_tree import Path

MOST_ON_DEVICES = 10_000
"""Sites whose devices are looked at one by one before a run."""
MOST_LISTED = 10_000_000
"""Sites that are listed, which takes memory for each."""
OR_DIVIDE = "or choose a partition that divides the examples, such as dirichlet"


def broken(scenario: Scenario) -> Iterator[Problem]:
    """Yield the rules that a scenario with the partition `resampled` breaks; none with another."""
    partition, client = scenario.population.partition, scenario.client
    if not isinstance(partition, Resampled):
        return
    for path, reason in _asked_of_all_sites(scenario):
        yield Problem(path, f"{reason}, {OR_DIVIDE}")
    fewest = partition.bounds[0]
    if client.drop_last and client.batch_size > fewest:
        yield Problem(
            ("client", "batch_size"),
            f"with drop_last, a site that draws {fewest} training examples never fills a batch of "
            f"{client.batch_size}: use at most {fewest}, or drop_last: false",
        )


def _asked_of_all_sites(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    """Yield what is asked of every site, or of sites as if their examples were theirs alone."""
    if scenario.population.devices and len(scenario.site_names) > MOST_ON_DEVICES:
        yield (
            ("population", "devices"),
            f"devices are given to all sites, at most {MOST_ON_DEVICES:,}: use fewer sites, leave "
            "devices out",
        )
    if isinstance(scenario.cohort, AllSites | Cyclic) and len(scenario.site_names) > MOST_LISTED:
        takes = (
            "take part in every round" if isinstance(scenario.cohort, AllSites) else "take turns"
        )
        yield (
            ("cohort",),
            f"all sites {takes}, at most {MOST_LISTED:,}: use {{kind: fixed_size, num_sites: ...}}",
        )
    if scenario.population.adversaries and len(scenario.site_names) > MOST_LISTED:
        yield (
            ("population", "adversaries"),
            f"who attacks is drawn among all sites, at most {MOST_LISTED:,}: use fewer sites",
        )
    if scenario.population.label_noise:
        yield (
            ("population", "label_noise"),
            "sites of the partition resampled share their examples, so no site can have labels of "
            "its own: leave it out",
        )
    if scenario.population.holdout_sites:
        yield (
            ("population", "holdout_sites"),
            "sites of the partition resampled have no test examples, and share those for training: "
            "leave it out (the server's test examples are of no site)",
        )
    if scenario.evaluation.loss_decomposition:
        yield (
            ("evaluation", "loss_decomposition"),
            "it looks at the training examples of all sites, and those of the partition resampled "
            "are drawn only when a site takes part: set it to false",
        )
    for index, name in enumerate(scenario.baselines):
        if name == "local":
            yield (
                ("baselines", index),
                "it trains every site alone, and sites of the partition resampled are without "
                "number: leave it out",
            )
