"""Private runs: what the ledger has is what was done, once, and never more than the budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from clients.dpsgd import DpSgd, train_private
from fedsim import environment, report
from fedsim.audit import mechanism
from fedsim.audit.session import subject
from fedsim.audit.subject import Options
from fedsim.errors import InputError, RunError
from fedsim.flower import private_training, wire
from fedsim.flower.local_training import train
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.flower.workplace import Workplace
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.balance import balance
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry, entries
from fedsim.records import RunRecord, checkpoint, read
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
DELTA = 1e-4


def private(noise: float | str = 1.0, **more: Any) -> dict[str, Any]:
    mechanism = {"kind": "example_level", "noise_multiplier": noise}
    return {"mechanism": mechanism, "delta": DELTA, **more}


def spent(record: RunRecord, site: str) -> History:
    return history(
        (entry.event, 1)
        for entry in entries(record.ledger)
        if entry.site == site and entry.event is not None
    )


def final(record: RunRecord, round: int | None = None) -> dict[str, torch.Tensor]:
    last = record.scenario["rounds"] if round is None else round
    model: dict[str, torch.Tensor] = checkpoint.load(checkpoint.path_of(record.folder, last))[
        "model"
    ]
    return model


@pytest.fixture(scope="module")
def whole(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return a run of three sites and rounds that nothing interrupted."""
    return run(tiny(privacy=private()), out=tmp_path_factory.mktemp("whole"), device="cpu")


def test_the_ledger_is_the_one_that_was_planned(whole: RunRecord, tiny: Make) -> None:
    scenario = tiny(privacy=private())
    planned = PrivateRounds.of(scenario, open_population(scenario)).planned()
    written = entries(whole.ledger)
    assert set(written) == set(planned)
    assert len(written) == len(planned) == len(whole.ledger)
    at_both = (balance(written, DELTA), balance(planned, DELTA))
    assert at_both[0].as_data() == at_both[1].as_data()


def test_sites_do_what_the_ledger_says(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[DpSgd] = []

    def spy(model: Any, examples: Any, mechanism: DpSgd, *rest: Any, **more: Any) -> Any:
        done.append(mechanism)
        return train_private(model, examples, mechanism, *rest, **more)

    monkeypatch.setattr(private_training, "train_private", spy)
    record = run(tiny(privacy=private(0.8)), out=tmp_path, device="cpu")
    events = [entry.event for entry in entries(record.ledger) if entry.event is not None]
    assert events == [
        Steps(one.noise_multiplier, one.sampling_rate, one.num_steps).event() for one in done
    ]
    for entry, one in zip(entries(record.ledger)[-9:], done, strict=True):
        assert entry.num_units is not None
        assert one.sampling_rate == min(1, 16 / entry.num_units)
        assert one.num_steps == math.ceil(entry.num_units / 16)


@pytest.mark.filterwarnings("ignore:Secure RNG turned off", "ignore:Full backward hook is firing")
def test_one_site_alone_has_the_ledger_of_opacus(tiny: Make, tmp_path: Path) -> None:
    sections = {"population": {"num_sites": 1}, "privacy": private(1.1)}
    num = open_population(tiny(**sections)).sizes()[0]
    parts = next(part for part in range(2, num) if num % part == 0)
    client = {"epochs": 2, "batch_size": num // parts}
    record = run(tiny(**sections, client=client), out=tmp_path, device="cpu")

    network, engine = nn.Linear(4, 2), PrivacyEngine(accountant="rdp")
    data = TensorDataset(torch.randn(num, 4), torch.zeros(num, dtype=torch.int64))
    network, optimizer, loader = engine.make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        data_loader=DataLoader(data, batch_size=num // parts),
        noise_multiplier=1.1,
        max_grad_norm=1.0,
    )
    for _ in range(3 * 2):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    ((noise, rate, steps),) = engine.accountant.history
    (name,) = (row["name"] for row in record.population["sites"])
    assert spent(record, name) == history([(Steps(noise, rate, steps).event(), 1)])


def test_a_crash_and_a_new_start_count_nothing_twice(
    whole: RunRecord, tiny: Make, broken: Callable[[Scenario, int], Path]
) -> None:
    folder = broken(tiny(privacy=private()), 2)
    assert len(read(folder).ledger) < len(whole.ledger)
    again = resume(folder)
    for name in ("ledger.jsonl", "rounds.jsonl", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert balance(entries(again.ledger), DELTA) == balance(entries(whole.ledger), DELTA)


def test_what_is_released_stands_in_the_ledger_before(
    whole: RunRecord, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies between writing and releasing goes on to the same ledger."""

    def die(message: Any, release: Steps) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wire, "address_release", die)
        with pytest.raises(KeyboardInterrupt):
            run(tiny(privacy=private()), out=tmp_path, name="died", device="cpu")
    charged = [entry for entry in entries(read(tmp_path / "died").ledger) if entry.event]
    assert [entry.round for entry in charged] == [1, 1, 1]
    again = resume(tmp_path / "died")
    assert again.ledger == whole.ledger


def test_where_noise_is_not_repeated_what_a_crash_cut_off_is_charged_again(
    whole: RunRecord, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(message: Any, release: Steps) -> None:
        raise KeyboardInterrupt

    folder, elsewhere = tmp_path / "died", ["torch: 2.13.0 -> 2.14.0"]
    with monkeypatch.context() as patch:
        patch.setattr(wire, "address_release", die)
        with pytest.raises(KeyboardInterrupt):
            run(tiny(privacy=private()), out=tmp_path, name="died", device="cpu")
        patch.setattr(environment, "differences", lambda *_: elsewhere)
        with pytest.raises(KeyboardInterrupt):  # the first round is begun anew, and cut off again
            resume(folder)
    again = resume(folder)  # as the last start: its noise is the same
    counts = Counter((entry.site, entry.round) for entry in entries(again.ledger) if entry.event)
    assert {round for (_, round), num in counts.items() if num == 2} == {1}
    assert sorted(counts.values()) == [1] * 6 + [2] * 3
    assert {tuple(a.purposes) for a in balance(entries(again.ledger), DELTA).accounts} == {
        ("local model",)
    }
    for name in {entry.site for entry in entries(again.ledger) if entry.event}:
        (event, num), *_ = spent(whole, str(name)).items()
        assert spent(again, str(name)) == {event: num // 3 * 4}
    assert all(torch.equal(final(again)[n], t) for n, t in final(whole).items())
    found = mechanism.run(subject(folder, Options(), torch.device("cpu")), lambda *_: None)
    assert not [f for f in found.findings if f.figure == "rows not planned" and f.alarm]


@pytest.mark.slow
def test_workers_change_no_bit(whole: RunRecord, tiny: Make, tmp_path: Path) -> None:
    record = run(tiny(privacy=private()), out=tmp_path, device="cpu", workers=2)
    for name in ("ledger.jsonl", "rounds.jsonl", "metrics.jsonl"):
        assert (record.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    for name, tensor in final(whole).items():
        assert torch.equal(tensor, final(record)[name])


def test_noise_differs_between_sites_and_rounds(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def spy(*rest: Any, noise: torch.Generator, **more: Any) -> Any:
        drawn.append(torch.randn(64, generator=torch.Generator().set_state(noise.get_state())))
        return train_private(*rest, noise=noise, **more)

    monkeypatch.setattr(private_training, "train_private", spy)
    run(tiny(privacy=private(2.0)), out=tmp_path, device="cpu")
    found = np.corrcoef(torch.stack(drawn).numpy())
    assert len(drawn) == 9
    assert np.abs(found - np.eye(9)).max() < 0.5


def test_more_noise_moves_the_model_by_more(tiny: Make, tmp_path: Path) -> None:
    """By about sigma C / B a step, which dwarfs everything else here."""
    lengths = []
    for noise in (50.0, 100.0):
        scenario = tiny(privacy=private(noise), rounds=1)
        record = run(scenario, out=tmp_path, name=f"{noise:g}", device="cpu", keep_every=1)
        before, after = final(record, 0), final(record, 1)
        lengths.append(math.sqrt(sum(float((after[n] - before[n]).square().sum()) for n in before)))
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.1)


@pytest.mark.parametrize("on_budget", ["stop_site", "stop_run"])
def test_what_would_overspend_is_not_released(tiny: Make, tmp_path: Path, on_budget: str) -> None:
    unequal = {"partition": {"kind": "sizes", "sizes": [1, 2, 4]}}
    scenario = tiny(privacy=private(1.0), population=unequal)
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    costs = {
        site: [epsilon(history([(rounds.release(site).event(), n)]), DELTA) for n in (1, 2, 3)]
        for site in range(3)
    }
    limit = max(two for _, two, _ in costs.values()) + 1e-6
    room = {site: sum(cost <= limit for cost in found) for site, found in costs.items()}
    assert min(room.values()) == 2  # the site that spends most may not go on
    assert max(room.values()) == 3  # and some other may
    budget = {"epsilon": limit, "on_budget": on_budget}
    scenario = tiny(privacy=private(1.0, budget=budget), population=unequal)
    record = run(scenario, out=tmp_path, device="cpu")
    names = [row["name"] for row in record.population["sites"]]
    done = {site: sum(names[site] in row["cohort"] for row in record.rounds) for site in room}
    assert done == (room if on_budget == "stop_site" else dict.fromkeys(room, 2))
    assert record.finished
    assert [bool(row["out_of_budget"]) for row in record.rounds] == [False, False, True]
    for name in names:
        assert 0 < epsilon(spent(record, name), DELTA) <= limit
    report.write(record)
    stopped = ", ".join(record.rounds[2]["out_of_budget"])
    told = f"nothing was released of {stopped} from round 3 on"
    assert told in (record.folder / "report/results.md").read_text(encoding="utf-8")


def test_where_no_site_could_pay_for_a_round_it_is_said_and_nobody_called_unprotected(
    tiny: Make, tmp_path: Path
) -> None:
    scenario = tiny(privacy=private(1.0, budget={"epsilon": 1e-3}), rounds=1)
    record = run(scenario, out=tmp_path, device="cpu")
    report.write(record)
    text = (record.folder / "report/results.md").read_text(encoding="utf-8")
    assert "Nothing was released with noise: no site trained." in text
    assert "from round 1 on" in text
    found = mechanism.run(subject(record.folder, Options(), torch.device("cpu")), lambda *_: None)
    assert found.notes == ["Nothing to test: the ledger has no release: no site trained."]


def test_a_run_that_was_stopped_by_its_budget_stays_stopped(
    tiny: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path]
) -> None:
    cohort = {"kind": "fixed_size", "num_sites": 2}
    budget = {"epsilon": 0.05, "on_budget": "stop_run"}
    scenario = tiny(privacy=private(1.0, budget=budget), cohort=cohort)
    record = resume(broken(scenario, 1))
    assert [row["cohort"] for row in record.rounds] == [[], [], []]
    assert all(torch.equal(final(record)[n], t) for n, t in final(record, 0).items())


def test_noise_that_is_solved_for_spends_the_budget_and_no_more(tiny: Make) -> None:
    scenario = tiny(privacy=private("auto", budget={"epsilon": 3.0}))
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    for site in range(3):
        steps = rounds.release(site)
        assert 2.9 < epsilon(history([(steps.event(), 3)]), DELTA) <= 3.0
        less = Steps(steps.noise_multiplier - 0.002, steps.sampling_rate, steps.num_steps)
        assert epsilon(history([(less.event(), 3)]), DELTA) > 3.0


def test_a_cohort_costs_the_rounds_that_it_is_drawn_for(tiny: Make) -> None:
    cohort = {"kind": "fixed_size", "num_sites": 2}
    scenario = tiny(privacy=private(), cohort=cohort, rounds=5)
    planned = PrivateRounds.of(scenario, open_population(scenario)).planned()
    by_round = [[e.site for e in planned if e.round == round] for round in range(1, 6)]
    assert [len(sites) for sites in by_round] == [2] * 5
    assert len({tuple(sites) for sites in by_round}) > 1


def test_strict_keeps_losses_at_the_sites(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(privacy=private(strict=True), evaluation={"loss_decomposition": False})
    record = run(scenario, out=tmp_path, device="cpu")
    assert {row["train_loss"] for row in record.rounds} == {None}
    assert {value for row in record.rounds for value in row["site_train_loss"].values()} == {None}
    assert not any("training loss" in entry.purpose for entry in entries(record.ledger))


def test_clipping_alone_is_said_to_protect_nobody(tiny: Make, tmp_path: Path) -> None:
    record = run(tiny(privacy=private(0.0), rounds=1), out=tmp_path, device="cpu")
    found = balance(entries(record.ledger), DELTA)
    assert {account.epsilon for account in found.accounts} == {math.inf}
    assert found.federation[0].attack.advantage == 1


def test_a_site_trains_privately_or_not_at_all(tiny: Make) -> None:
    scenario = tiny(privacy=private())
    workplace = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    before = workplace.network.snapshot()
    with pytest.raises(RunError, match="no private release"):
        train(workplace, 0, 1, before)
    assert all(torch.equal(before[n], t) for n, t in workplace.network.snapshot().items())


def test_equal_entries_are_one_release_and_others_are_not() -> None:
    entry = Entry(
        1, "a", "local model", "example", "replace_special", 9, "x", Steps(1, 1, 2).event()
    )
    other = Entry(1, "a", "local model, again", *list(vars(entry).values())[3:])
    assert entries([entry.row(), entry.row(), other.row()]) == [entry, other]
    with pytest.raises(InputError, match="a row of a ledger has"):
        entries([{"round": 1}])
    with pytest.raises(InputError, match="unit and relation"):
        entries([{**entry.row(), "unit": "planet"}])


def test_batch_normalisation_is_refused_before_training_by_the_name_of_its_layer(
    tmp_path: Path,
) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 33, "num_examples": 60}
    content: dict[str, Any] = {
        "version": 1,
        "name": "bn",
        "rounds": 1,
        "data": {"source": source, "task": "binary"},
        "population": {"num_sites": 1},
        "model": {"kind": "monai", "name": "ResNet18"},
        "client": {"steps": 1, "batch_size": 4},
        "privacy": private(),
    }
    with pytest.raises(InputError, match=r"bn1.*normalisation: group"):
        run(from_data(content, "bn"), out=tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())
