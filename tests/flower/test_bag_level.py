"""Where whole bags are hidden: what a bag is, what it costs, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dp_accounting import dp_event
from torch import Tensor
from typer.testing import CliRunner

from fedsim.cli import app
from fedsim.errors import ScenarioError
from fedsim.privacy.balance import balance
from fedsim.privacy.ledger import entries
from fedsim.records import RunRecord, checkpoint
from fedsim.report.privacy import balance_of, said
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
BAGS = {"kind": "bags", "bag_size": 4}
OBJECTIVE = {"kind": "bag"}


def scenario(
    make: Make,
    bags: dict[str, Any] | None = None,
    objective: dict[str, Any] | None = None,
    noise: float = 2.0,
    **more: Any,
) -> Scenario:
    mechanism = {"kind": "bag_level", "noise_multiplier": noise, **more.pop("mechanism", {})}
    client = {
        "epochs": 1,
        "batch_size": 16,
        "objective": objective or OBJECTIVE,
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        **more.pop("client", {}),
    }
    sections = {
        "population": {"num_sites": 3, "supervision": [{**BAGS, **(bags or {})}]},
        "evaluation": {
            "metrics": ["auroc", "loss", "bag_loss"],
            "select_by": "bag_loss",
            "loss_decomposition": False,
        },
        "privacy": {"mechanism": mechanism, "delta": 1e-3},
    }
    return make(**{**sections, "client": client, **more})


def final(record: RunRecord) -> dict[str, Tensor]:
    last = record.selection.final_round
    model: dict[str, Tensor] = checkpoint.load(checkpoint.path_of(record.folder, last))["model"]
    return model


def test_the_ledger_has_whole_bags(tiny: Make, tmp_path: Path) -> None:
    made = scenario(tiny)
    population = open_population(made)
    record = run(made, out=tmp_path, device="cpu")
    released = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert len(released) == 3 * made.rounds
    for entry in released:
        site = population.names.index(str(entry.site))
        num = len(population.held(site)["train"])
        step = dp_event.PoissonSampledDpEvent(min(1, 16 / num), dp_event.GaussianDpEvent(2.0))
        assert entry.event == dp_event.SelfComposedDpEvent(step, made.client.plan.num_steps(num))
        assert (entry.unit, entry.relation) == ("bag", "replace_special")
        assert entry.num_units == population.num_bags(site, "train")
    found = balance_of(record)
    assert found is not None
    assert "bag" in " ".join(said(record, found))
    assert any("share a bag" in item for item in found.unprotected)
    code = CliRunner().invoke(app, ["ledger", str(record.folder)])
    assert code.exit_code == 0, code.output


def test_bags_of_one_with_all_in_every_step_are_single_images(tiny: Make, tmp_path: Path) -> None:
    """Without noise and with q = 1 both mechanisms clip and add up the same gradients."""
    client = {"batch_size": 1000, "epochs": 2}
    bags = run(scenario(tiny, {"bag_size": 1}, noise=0.0, client=client), out=tmp_path, name="bags")
    images = run(
        scenario(
            tiny,
            noise=0.0,
            client=client,
            objective={"kind": "cross_entropy"},
            mechanism={"kind": "example_level"},
            population={"num_sites": 3},
            evaluation={"metrics": ["auroc", "loss"], "select_by": "loss"},
        ),
        out=tmp_path,
        name="images",
    )
    for name, tensor in final(images).items():
        torch.testing.assert_close(final(bags)[name], tensor, rtol=1e-4, atol=1e-6)


def test_labels_and_bags_are_hidden_by_lines_of_their_own(tiny: Make, tmp_path: Path) -> None:
    noisy = {"label_privacy": {"kind": "laplace", "epsilon": 3.0}}
    record = run(scenario(tiny, noisy), out=tmp_path, device="cpu")
    found = balance(entries(record.ledger), 1e-3)
    units = {verdict.account.unit: verdict.account.epsilon for verdict in found.federation}
    assert set(units) == {"bag", "label"}
    assert units["label"] == pytest.approx(3.0, rel=1e-9)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    tiny: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path]
) -> None:
    made = scenario(tiny)
    whole, stopped = run(made, out=tmp_path, name="whole"), resume(broken(made, 2))
    assert all(torch.equal(final(whole)[n], final(stopped)[n]) for n in final(whole))
    assert whole.ledger == stopped.ledger


LABELS = {"kind": "labels", "sites": ["site-00"]}


@pytest.mark.parametrize(
    ("changes", "key", "why"),
    [
        ({"bags": {"num_draws": 2}}, "supervision.0.num_draws", "several units"),
        ({"bags": {"draw": {"kind": "similar"}}}, "supervision.0.draw", "random or grouped"),
        ({"objective": {"kind": "easy_llp"}}, "client.objective", "interpolated_bag"),
        (
            {"objective": {"kind": "interpolated_bag", "rho": "auto"}},
            "client.objective.rho",
            "give a number",
        ),
        (
            {"population": {"num_sites": 3, "supervision": [LABELS, BAGS]}},
            "privacy.mechanism.kind",
            "site-00 has labels",
        ),
        ({"population": {"num_sites": 3}}, "privacy.mechanism.kind", "has labels"),
        (
            {
                "mechanism": {"num_augmentations": 2},
                "data": {
                    "source": {"kind": "synthetic", "anatomy": "chest", "image_size": 16},
                    "task": "binary",
                    "augmentation": {"horizontal_flip": True},
                },
            },
            "privacy.mechanism.num_augmentations",
            "set it to 1",
        ),
        (
            {"mechanism": {"kind": "example_level"}},
            "client.objective",
            "moves the clipped sum by more than clip_norm",
        ),
    ],
)
def test_what_would_let_a_bag_move_more_is_refused(
    tiny: Make, changes: dict[str, Any], key: str, why: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        open_population(scenario(tiny, **changes))
    text = " ".join(str(caught.value).split())
    assert key in text
    assert why in text
