"""What must hold of devices, outages and the round policy; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from fedsim.errors import DataError
from fedsim.fleet.profile import PRECISIONS
from fedsim.fleet.round_policy import BufferedAsync, OverSelect
from fedsim.scenario.cohort import AllSites, FixedSize
from fedsim.scenario.messages import Problem, no_site
from fedsim.scenario.scenario import Scenario

SHARES_TOLERANCE = 1e-9


def broken_by_fleet(scenario: Scenario) -> Iterator[Problem]:
    """Yield the rules that devices, outages and round policy break."""
    try:
        names = scenario.site_names
    except DataError:
        return  # told where the sites are
    yield from _named(scenario, names)
    yield from _devices(scenario, names)
    yield from _policy(scenario, names)
    yield from _batch(scenario)


def _named(scenario: Scenario, names: Sequence[str]) -> Iterator[Problem]:
    sites = scenario.population
    lists: list[tuple[str, list[tuple[str, ...] | None]]] = [
        ("devices", [group.sites for group in sites.devices]),
        ("outages", [outage.sites for outage in sites.outages]),
    ]
    for key, listed in lists:
        for number, asked in enumerate(listed):
            for index, name in enumerate(asked or ()):
                if name not in names:
                    yield Problem(("population", key, number, "sites", index), no_site(name, names))


def _devices(scenario: Scenario, names: Sequence[str]) -> Iterator[Problem]:
    groups = scenario.population.devices
    if not groups:
        return
    taken: set[str] = set()
    for number, group in enumerate(groups):
        for index, name in enumerate(group.sites or ()):
            if name in taken:
                yield Problem(
                    ("population", "devices", number, "sites", index),
                    f"{name!r} has a device already",
                )
            taken.add(name)
        if not group.device.supports(group.precision):
            able = " or ".join(p for p in PRECISIONS if group.device.supports(p))
            yield Problem(
                ("population", "devices", number, "precision"),
                f"{group.name} has no units for {group.precision}: use {able}",
            )
    shares = [group.share for group in groups if group.share is not None]
    taken |= set(scenario.population.holdout_sites)
    left = list(islice((name for name in names if name not in taken), 13))
    if shares and abs(sum(shares) - 1) > SHARES_TOLERANCE:
        yield Problem(
            ("population", "devices"),
            f"the shares sum to {sum(shares):g}, not to 1: they divide the sites that no group "
            "names",
        )
    elif left and not shares:
        yield Problem(
            ("population", "devices"),
            f"{', '.join(left[:12])}{', ...' * (len(left) > 12)}: no device; name them in `sites`, "
            "or give a group a share: 1",
        )


def _policy(scenario: Scenario, names: Sequence[str]) -> Iterator[Problem]:
    policy, cohort = scenario.round_policy, scenario.cohort
    if policy.needs_devices and not scenario.population.devices:
        yield Problem(
            ("round_policy",),
            f"{policy.kind} needs to know how long sites take: give population.devices, or "
            "round_policy: {kind: synchronous}",
        )
    if isinstance(policy, OverSelect) and isinstance(cohort, AllSites):
        yield Problem(
            ("round_policy",),
            "over_select has no site to add to a cohort of all: use "
            "cohort: {kind: fixed_size, num_sites: ...}",
        )
    if isinstance(policy, BufferedAsync):
        if not isinstance(cohort, AllSites | FixedSize):
            yield Problem(
                ("cohort",),
                f"buffered_async keeps as many sites at work as the cohort has, but {cohort.kind} "
                "has no fixed number: use {kind: fixed_size, num_sites: ...}, or all",
            )
        num = len(names) - len(set(scenario.population.holdout_sites))
        if policy.buffer_size > num:
            yield Problem(
                ("round_policy", "buffer_size"),
                f"a site counts once in a round, so at most {num}: there are no more sites",
            )


def _batch(scenario: Scenario) -> Iterator[Problem]:
    client = scenario.client
    if client.batch == "fit" and not scenario.population.devices:
        yield Problem(
            ("client", "batch"),
            "`fit` needs devices to fit into: give population.devices, or leave it out",
        )
    if client.batch == "fit" and client.objective.couples_examples:
        yield Problem(
            ("client", "batch"),
            f"this {client.objective.kind} is no mean over examples, so gradients of parts of a "
            "batch do not add up to it: use batch: whole and a smaller batch_size, or another "
            "objective",
        )
    if client.batch == "fit" and client.regulariser and client.regulariser.couples_examples:
        yield Problem(
            ("client", "batch"),
            f"{client.regulariser.kind} is no mean over examples, so gradients of parts of a batch "
            "do not add up to it: use batch: whole and a smaller batch_size",
        )
