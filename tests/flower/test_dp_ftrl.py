"""DP-FTRL in whole runs: noise that rounds share, and what each site spends of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dp_accounting import dp_event

from fedsim.errors import ScenarioError
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.balance import balance
from fedsim.privacy.ledger import Entry, entries
from fedsim.privacy.matrix_factorisation import Banded, Factorisation, Tree
from fedsim.privacy.private_mean import NOISE
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
DELTA = 1e-2
TURNS = {"kind": "cyclic", "num_sites": 1}
UNIFORM = {"kind": "weighted_mean", "weights": "uniform"}
GAUSSIAN = dp_event.GaussianDpEvent(1.0)
FILES = ("ledger.jsonl", "rounds.jsonl", "metrics.jsonl")


@pytest.fixture
def dp_ftrl(tiny: Make) -> Make:
    """Return a function that makes a scenario of three sites that take turns for five rounds."""

    def make(noise: float | str = 1.0, budget: Any = None, more: Any = (), **sections: Any) -> Any:
        mechanism = {"kind": "dp_ftrl", "noise_multiplier": noise, **dict(more)}
        privacy = {"mechanism": mechanism, "delta": DELTA, "budget": budget}
        usual = {"rounds": 5, "cohort": TURNS, "strategy": UNIFORM}
        return tiny(privacy=privacy, **{**usual, **sections})

    return make


def state(record: RunRecord, round: int) -> dict[str, Any]:
    found: dict[str, Any] = checkpoint.load(checkpoint.path_of(record.folder, round))
    return found


def flat(record: RunRecord, round: int) -> torch.Tensor:
    model = state(record, round)["model"]
    return torch.cat([value.double().ravel() for value in model.values()])


def released(found: list[Entry]) -> list[Entry]:
    return [entry for entry in found if entry.event is not None]


def test_every_site_spends_its_own_rounds_as_if_noise_were_independent(
    dp_ftrl: Make, tmp_path: Path
) -> None:
    scenario = dp_ftrl()
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    written = released(entries(record.ledger))
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    assert sorted(written, key=repr) == sorted(released(rounds.planned()), key=repr)
    assert [entry.round for entry in written] == [1, 2, 3, 4, 5]
    assert [[entry.site] for entry in written] == [row["cohort"] for row in record.rounds]
    assert {entry.event for entry in written} == {GAUSSIAN}
    assert Counter(Counter(entry.site for entry in written).values()) == {2: 2, 1: 1}
    for account in balance(written, DELTA).accounts:
        assert account.epsilon == epsilon({GAUSSIAN: account.num_rounds}, DELTA)
        assert (account.unit, account.relation) == ("site", "replace_special")


def test_at_client_level_turns_cost_the_same(dp_ftrl: Make, tiny: Make) -> None:
    mechanism = {"kind": "client_level", "noise_multiplier": 1.0}
    privacy = {"mechanism": mechanism, "delta": DELTA}
    alone = tiny(privacy=privacy, rounds=5, cohort=TURNS, strategy=UNIFORM)
    found = [
        {
            (e.round, e.site, e.event)
            for e in released(PrivateRounds.of(s, open_population(s)).planned())
        }
        for s in (alone, dp_ftrl())
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(("kind", "part"), [("banded", Banded()), ("tree", Tree())])
def test_where_no_site_answers_the_model_walks_along_the_shared_noise(
    dp_ftrl: Make, tmp_path: Path, kind: str, part: Factorisation
) -> None:
    """Of z_t from the streams and C written out: w = C^-1 z, times sigma C / D."""
    scenario = dp_ftrl(
        0.5,
        more={"factorisation": {"kind": kind}, "clip_norm": 0.3},
        population={"num_sites": 3, "outages": [{}]},
    )
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    assert [row["cohort"] for row in record.rounds] == [[]] * 5
    model = state(record, 0)["model"]
    independent = []
    for round in range(1, 6):
        generator = Streams(scenario.seed).torch_apart(NOISE, round)
        draws = [
            torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in model.values()
        ]
        independent.append(torch.cat([draw.ravel() for draw in draws]))
    unit = torch.eye(5, dtype=torch.float64)
    matrix = torch.linalg.inv(torch.stack(list(part.correlated(unit, 3))))
    noise = torch.linalg.solve(matrix, torch.stack(independent)) * 0.5 * 0.3
    for round in range(1, 6):
        moved = flat(record, round) - flat(record, round - 1)
        torch.testing.assert_close(moved, noise[round - 1], rtol=1e-4, atol=1e-6)


def test_without_noise_it_is_averaging_of_clipped_updates(dp_ftrl: Make, tmp_path: Path) -> None:
    record = run(dp_ftrl(0.0, more={"clip_norm": 0.01}), out=tmp_path, device="cpu", keep_every=1)
    for round in range(1, 6):
        assert float((flat(record, round) - flat(record, round - 1)).norm()) <= 0.01 + 1e-6


@pytest.mark.parametrize("kind", ["banded", "tree"])
def test_a_crash_and_a_new_start_change_no_bit(
    dp_ftrl: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path], kind: str
) -> None:
    momentum = {"kind": "sgd", "learning_rate": 1.0, "momentum": 0.9}
    scenario = dp_ftrl(0.1, more={"factorisation": {"kind": kind}}, server_optimizer=momentum)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    again = resume(broken(scenario, 2))
    for name in FILES:
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert torch.equal(flat(again, 5), flat(whole, 5))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["own", "flower"])
def test_engines_and_workers_change_no_bit(dp_ftrl: Make, tmp_path: Path, engine: Any) -> None:
    scenario = dp_ftrl(0.1)
    here = run(scenario, out=tmp_path, name="here", device="cpu")
    there = run(scenario, out=tmp_path, name="there", device="cpu", workers=2, engine=engine)
    for name in FILES:
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    assert torch.equal(flat(there, 5), flat(here, 5))


def test_noise_that_is_solved_for_spends_the_budget_of_the_busiest_site(dp_ftrl: Make) -> None:
    scenario = dp_ftrl("auto", budget={"epsilon": 3.0})
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    found = balance(rounds.planned(), DELTA)
    assert 2.9 < found.federation[0].bounds.high <= 3.0
    assert found.federation[0].account.num_rounds == 2
    assert len({rounds.release(site).noise_multiplier for site in range(3)}) == 1


def test_a_site_out_of_budget_leaves_the_noise_as_it_is(dp_ftrl: Make, tmp_path: Path) -> None:
    limit = epsilon({GAUSSIAN: 1}, DELTA) + 1e-6
    record = run(dp_ftrl(budget={"epsilon": limit}), out=tmp_path, device="cpu", keep_every=1)
    assert [len(row["cohort"]) for row in record.rounds] == [1, 1, 1, 0, 0]
    assert len(released(entries(record.ledger))) == 3
    assert torch.equal(flat(record, 3), flat(record, 5))


@pytest.mark.parametrize(
    ("changes", "key", "why"),
    [
        ({"cohort": {"kind": "all"}}, "cohort", "cyclic"),
        ({"cohort": {"kind": "fixed_size", "num_sites": 1}}, "cohort", "cyclic"),
        ({"cohort": {"kind": "poisson", "sampling_rate": 0.3}}, "cohort", "cyclic"),
        (
            {"more": {"factorisation": {"kind": "banded", "bands": 4}}},
            "privacy.mechanism.factorisation",
            "bands: 3 at most",
        ),
        ({"strategy": {"kind": "weighted_mean"}}, "strategy.weights", "uniform"),
        ({"strategy": {"kind": "principal_gradient"}}, "strategy", "no fixed mean"),
        ({"round_policy": {"kind": "over_select"}}, "round_policy", "synchronous"),
    ],
)
def test_what_would_not_be_private_is_refused(
    dp_ftrl: Make, changes: dict[str, Any], key: str, why: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        dp_ftrl(**changes)
    assert key in str(caught.value)
    assert why in str(caught.value)


def test_as_many_bands_as_a_cycle_has_rounds_are_fine(dp_ftrl: Make) -> None:
    for bands in (1, 3, "auto"):
        dp_ftrl(more={"factorisation": {"kind": "banded", "bands": bands}})
