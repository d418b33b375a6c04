"""Labels and images hidden in one run: both are in the ledger, each for what it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.privacy.balance import balance
from fedsim.privacy.balance_words import promise, together
from fedsim.privacy.ledger import entries
from fedsim.scenario import Scenario
from fedsim.scenario.privacy import beside_labels
from fedsim.scenario.scenario import Sites
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
DELTA = 1e-4
RANDOMISED = {"kind": "labels", "label_privacy": {"kind": "randomised_response", "epsilon": 1.5}}

OFFICIAL = Sites(num_sites=3, supervision=[RANDOMISED], held_out="official")


def both(tiny: Make, **more: Any) -> Scenario:
    return tiny(
        population={"num_sites": 3, "supervision": [RANDOMISED]},
        client={"epochs": 1, "batch_size": 16, "objective": {"kind": "forward_corrected"}},
        privacy={
            "mechanism": {"kind": "example_level", "noise_multiplier": 2.0},
            "delta": DELTA,
            **more,
        },
        evaluation={"loss_decomposition": False},
    )


def test_the_balance_has_both_kinds_of_unit_and_adds_neither_to_the_other(
    tiny: Make, tmp_path: Path
) -> None:
    record = run(both(tiny), out=tmp_path, device="cpu")
    written = entries(record.ledger)
    found = balance(written, DELTA)
    assert [verdict.account.unit for verdict in found.federation] == ["example", "label"]
    images, labels = found.federation
    alone = balance([entry for entry in written if entry.unit == "example"], DELTA)
    assert images == alone.federation[0]
    assert labels.account.delta == 0
    assert labels.bounds.low == labels.bounds.high == pytest.approx(1.5, rel=1e-12)
    assert list(together(alone)) == []
    (said,) = together(found)
    assert "neither is added to the other" in said
    assert "delta" not in promise(labels.account)
    report.write(record)
    assert said in (record.folder / "report" / "results.md").read_text()


def test_what_is_told_of_labels_is_written_once_and_takes_nothing_from_the_budget(
    tiny: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path]
) -> None:
    """All rounds fit into the budget, and would not if the label's 1.5 counted on resuming."""
    alone = balance(entries(run(both(tiny), out=tmp_path, device="cpu").ledger), DELTA)
    three = alone.federation[0].account.epsilon
    scenario = both(tiny, budget={"epsilon": three * 1.01})
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    again = resume(broken(scenario, 1))
    assert again.ledger == whole.ledger
    assert [row["out_of_budget"] for row in again.rounds] == [[], [], []]
    told = [entry for entry in entries(again.ledger) if entry.unit == "label"]
    assert len(told) == 3


def test_a_run_that_died_before_its_first_checkpoint_tells_of_labels_once(
    tiny: Make, tmp_path: Path
) -> None:
    whole = run(both(tiny), out=tmp_path, name="whole", device="cpu")

    def die(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(both(tiny), out=tmp_path, name="died", device="cpu", watch=die)
    for file in (tmp_path / "died" / "checkpoints").iterdir():
        file.unlink()
    assert resume(tmp_path / "died").ledger == whole.ledger


@pytest.mark.parametrize("split", ["by class", "official"])
def test_what_else_is_told_of_true_labels_is_listed(tiny: Make, tmp_path: Path, split: str) -> None:
    scenario = tiny(population={"num_sites": 3, "supervision": [RANDOMISED]}, rounds=1)
    if split == "official":
        told = list(beside_labels(scenario.model_copy(update={"population": OFFICIAL})))
    else:
        told = balance(entries(run(scenario, out=tmp_path, device="cpu").ledger), 0).unprotected
    assert any("true labels of test images" in what for what in told)
    assert any("held out class by class" in what for what in told) == (split == "by class")
    assert list(beside_labels(tiny())) == []


def test_of_labels_no_delta_is_asked_and_of_gaussian_noise_it_is_their_own(tiny: Make) -> None:
    from fedsim.scenario.promises import delta_of, is_private

    def resolved(**privacy: Any) -> dict[str, Any]:
        part = {"kind": "bags", "bag_size": 4, "label_privacy": privacy}
        scenario = tiny(
            population={"num_sites": 3, "supervision": [part]},
            client={"epochs": 1, "batch_size": 16, "objective": {"kind": "bag"}},
            evaluation={
                "metrics": ["bag_loss"],
                "select_by": "bag_loss",
                "loss_decomposition": False,
            },
        )
        return dict(scenario.resolved())

    assert delta_of(resolved(kind="laplace", epsilon=1.0)) == 0
    assert delta_of(resolved(kind="gaussian", epsilon=1.0, delta=1e-5)) == 1e-5
    assert is_private(resolved(kind="laplace", epsilon=1.0))
    assert not is_private(dict(tiny().resolved()))
    assert math.isclose(delta_of(dict(both(tiny).resolved())), DELTA)
