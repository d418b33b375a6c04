"""Who may go on where patients are at several sites: for them the releases of these add up."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.flower.desk import Desk
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.events import history
from fedsim.records import RunFolder
from fedsim.scenario import Scenario, from_data

DELTA, ROUNDS = 1e-3, 6
Groups = list[tuple[int, ...]]


class Ledger:
    """What a desk sees of a run folder."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add_releases(self, rows: Any) -> None:
        self.rows.extend(rows)

    def releases(self) -> list[dict[str, Any]]:
        return self.rows


def scenario(
    noise: float | str, limit: float, on_budget: str = "stop_site", **more: Any
) -> Scenario:
    content = {
        "version": 1,
        "name": "desk",
        "rounds": ROUNDS,
        "data": {
            "source": {"kind": "synthetic", "anatomy": "chest", "images_per_patient": 2},
            "task": "binary",
        },
        "population": {"num_sites": 3},
        "model": {"kind": "mlp"},
        "client": {"epochs": 1, "batch_size": 8},
        "privacy": {
            "mechanism": {"kind": "patient_level", "noise_multiplier": noise},
            "delta": DELTA,
            "budget": {"epsilon": limit, "on_budget": on_budget},
        },
        **more,
    }
    return from_data(content, "FILE")


def planned(
    asked: Scenario, groups: Groups, sizes: tuple[int, ...] = (24, 24, 24)
) -> PrivateRounds:
    names = [f"site-{number}" for number in range(len(sizes))]
    return PrivateRounds(asked, names, lambda site: sizes[site], shared=groups)


def spent(rounds: PrivateRounds, times: dict[int, int]) -> float:
    """Return epsilon of who is at sites that released so often."""
    return epsilon(history((rounds.release(site).event(), n) for site, n in times.items()), DELTA)


def played(
    rounds: PrivateRounds, absent: dict[int, list[int]] | None = None, again_after: int = 0
) -> list[list[int]]:
    """Return who trains in each round; after one of them another desk goes on."""
    ledger = cast(RunFolder, Ledger())
    desk, trained = Desk(rounds, ledger), []
    for round in range(1, ROUNDS + 1):
        away = (absent or {}).get(round, [])
        cohort = [site for site in range(len(rounds.names)) if round in rounds.rounds_of(site)]
        sites = [s for s in desk.admit(round, cohort, away) if s not in away]
        desk.charge(round, sites)
        trained.append(sites)
        if round == again_after:
            state = desk.state()
            desk = Desk(rounds, ledger)
            desk.restore(round, state)
    return trained


def test_sites_of_a_patient_stop_together_and_others_go_on() -> None:
    free = planned(scenario(0.8, 1e6), [])
    limit = spent(free, {0: 3, 1: 3}) + 1e-6
    assert spent(free, {2: ROUNDS}) < limit
    rounds = planned(scenario(0.8, limit), [(0, 1)])
    expected = [[0, 1, 2]] * 3 + [[2]] * 3
    assert played(rounds) == expected
    assert all(played(rounds, again_after=last) == expected for last in range(1, ROUNDS))


def test_of_groups_that_overlap_the_order_does_not_matter() -> None:
    sizes = (24, 40, 16)
    free = planned(scenario(0.8, 1e6), [], sizes)
    limit = spent(free, {1: 2, 2: 2}) - 1e-6  # of these two the second round is too much
    assert spent(free, {0: 2, 1: 2}) < limit
    one, other = (
        played(planned(scenario(0.8, limit), groups, sizes))
        for groups in ([(0, 1), (1, 2)], [(1, 2), (0, 1)])
    )
    assert one[:2] == [[0, 1, 2], [0]]
    assert one == other


def test_an_absent_site_costs_nothing_and_keeps_nobody_out() -> None:
    free = planned(scenario(0.8, 1e6), [])
    limit = spent(free, {0: 3, 1: 2}) + 1e-6
    rounds = planned(scenario(0.8, limit), [(0, 1)])
    assert [0 in sites for sites in played(rounds)] == [True] * 2 + [False] * 4
    there = played(rounds, absent={round: [1] for round in range(3, ROUNDS + 1)})
    assert [0 in sites for sites in there] == [True] * 3 + [False] * 3


def test_what_was_not_released_for_an_absence_is_released_later() -> None:
    free = planned(scenario(0.8, 1e6), [])
    rounds = planned(scenario(0.8, spent(free, {0: 3, 1: 3}) + 1e-6), [(0, 1)])
    assert [sites[:-1] for sites in played(rounds, absent={1: [0, 1]})] == [
        [],
        *[[0, 1]] * 3,
        *[[]] * 2,
    ]


def test_noise_is_raised_for_sites_that_release_something() -> None:
    cohort = {"kind": "fixed_size", "num_sites": 1}
    asked = scenario("auto", 6.0, cohort=cohort, rounds=2)
    rounds = planned(asked, [(0, 1, 2)])
    drawn = [site for site in range(3) if rounds.rounds_of(site)]
    assert len(drawn) == 2
    both = planned(asked, [tuple(drawn)])
    assert [rounds.release(s) for s in drawn] == [both.release(s) for s in drawn]
    assert 5.9 < spent(rounds, dict.fromkeys(drawn, 1)) <= 6.0
    noises = {rounds.alone(site).noise_multiplier for site in range(3)}
    assert min(noises) > max(rounds.release(site).noise_multiplier for site in drawn)


SHARING = [[], [(0, 1)], [(0, 1), (1, 2)], [(0, 1), (0, 2), (1, 2)], [(0, 1, 2)]]
COHORTS: list[dict[str, Any]] = [
    {"kind": "all"},
    {"kind": "fixed_size", "num_sites": 2},
    {"kind": "poisson", "sampling_rate": 0.6},
]


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from(SHARING),
    cohort=st.sampled_from(COHORTS),
    limit=st.sampled_from([2.0, 4.0, 6.0]),
    on_budget=st.sampled_from(["stop_site", "stop_run"]),
    away=st.dictionaries(st.integers(1, ROUNDS), st.lists(st.integers(0, 2), max_size=2)),
    again_after=st.integers(1, ROUNDS),
)
def test_nobody_overspends_and_who_goes_on_decides_the_same(
    groups: Groups,
    cohort: dict[str, Any],
    limit: float,
    on_budget: str,
    away: dict[int, list[int]],
    again_after: int,
) -> None:
    whole = {"epochs": 1, "batch_size": 64}  # Gaussian releases are soon composed
    asked = scenario(2.0, limit, on_budget, cohort=cohort, client=whole)
    rounds = planned(asked, groups, (24, 40, 16))
    trained = played(rounds, away)
    times = Counter(site for sites in trained for site in sites)
    for payer in [(0,), (1,), (2,), *groups]:
        assert spent(rounds, {site: times[site] for site in payer if times[site]}) <= limit
    assert played(rounds, away, again_after) == trained
