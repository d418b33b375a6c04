"""Federations whose sites know bags alone: they learn, to the same bits, and go on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fedsim import report
from fedsim.cli import app
from fedsim.data.aggregates import Aggregates
from fedsim.flower.scoring import bag_loss, score
from fedsim.flower.unshrinking import unshrunk
from fedsim.privacy.balance import balance
from fedsim.privacy.balance_words import promise, summary
from fedsim.privacy.ledger import entries
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.simulate import resume, run, run_folder

Make = Callable[..., Scenario]
BAGS = {"kind": "bags", "bag_size": 4}
MIXED = [{"kind": "labels", "sites": ["site-00"]}, BAGS]
EVALUATION = {"metrics": ["auroc", "loss", "bag_loss"], "select_by": "bag_loss"}


def scenario(make: Make, supervision: list[dict[str, Any]], **more: Any) -> Scenario:
    objective = more.pop("objective", {"kind": "bag"})
    optimizer = {"kind": "sgd", "learning_rate": 0.1}
    return make(
        population={"num_sites": 3, "supervision": supervision},
        client={"epochs": 1, "batch_size": 16, "objective": objective, "optimizer": optimizer},
        evaluation={**EVALUATION, "loss_decomposition": False},
        **more,
    )


def values(record: RunRecord, split: str, site: str, metric: str) -> list[float | None]:
    wanted = (split, site, metric)
    return [r["value"] for r in record.metrics if (r["split"], r["site"], r["metric"]) == wanted]


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in ("rounds.jsonl", "metrics.jsonl", "baselines.jsonl")]
    files += sorted((folder / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in files if file.exists()}


def test_the_bag_loss_is_the_cross_entropy_of_mean_probabilities() -> None:
    p = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    bags = Aggregates(np.array([0, 0, 1]), np.array([[0.5, 0.5], [0.0, 1.0]], np.float32))
    first = -(0.5 * np.log(0.7) + 0.5 * np.log(0.3))
    expected = (2 * first - np.log(0.8)) / 3
    assert bag_loss(np.log(p), bags) == pytest.approx(expected, rel=1e-12)


def test_in_bags_of_one_the_bag_loss_is_the_loss(tiny: Make) -> None:
    rng = np.random.default_rng(0)
    scores = np.log(rng.dirichlet([1, 1], 9))
    labels = rng.integers(0, 2, 9)
    bags = Aggregates(np.arange(9), np.eye(2, dtype=np.float32)[labels])
    rows = score(
        scenario(tiny, MIXED),
        1,
        {"validation": {"a": (scores, labels), "b": (scores, np.full(9, -1))}},
        {"validation": {"b": bags}},
    )
    found = {(row["site"], row["metric"]): row for row in rows}
    assert found["a", "bag_loss"]["value"] == pytest.approx(found["a", "loss"]["value"])
    assert found["b", "bag_loss"]["value"] == pytest.approx(found["a", "loss"]["value"])
    assert found["pooled", "bag_loss"]["value"] == pytest.approx(found["a", "loss"]["value"])
    assert found["b", "loss"]["value"] is None
    assert found["b", "loss"]["num_valid"] == 0
    assert found["pooled", "auroc"]["value"] == found["a", "auroc"]["value"]


def test_a_bag_loss_that_is_no_number_is_undefined(tiny: Make) -> None:
    bags = Aggregates(np.array([0, 0]), np.array([[0.5, 0.5]], np.float32))
    said = {"validation": {"b": (np.full((2, 2), np.nan), np.full(2, -1))}}
    rows = score(scenario(tiny, [BAGS]), 1, said, {"validation": {"b": bags}})
    assert {row["value"] for row in rows} == {None}


def test_sites_with_bags_are_judged_by_bags_and_by_the_simulator(
    tiny: Make, tmp_path: Path
) -> None:
    plan = scenario(tiny, [BAGS], rounds=12, baselines=["pooled", "local"])
    record = run(plan, out=tmp_path, device="cpu")
    losses = values(record, "validation", "pooled", "bag_loss")
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    assert set(values(record, "validation", "pooled", "auroc")) == {None}
    assert all(value is not None for value in values(record, "test", "pooled", "auroc"))
    assert record.selection.metric == "bag_loss"
    assert record.population["knowledge"]["site-01"]["knows"] == "bags"
    truth = open_population(tiny(population={"num_sites": 3}))
    for name, (_, labels) in record.predictions(12)["test"].items():
        site = list(truth.names).index(name)
        np.testing.assert_array_equal(labels, truth.labels[truth.indices[site]["test"]])
    assert all((labels == -1).all() for _, labels in record.predictions(12)["validation"].values())
    rows = [row for row in record.baselines if row["split"] == "test" and row["metric"] == "auroc"]
    assert {row["baseline"] for row in rows} == {"pooled", "local"}
    assert any(row["value"] is not None for row in rows)


@pytest.mark.parametrize("supervision", [[BAGS], MIXED], ids=["bags", "mixed"])
def test_bags_give_equal_bits_with_workers_and_after_a_stop(
    tiny: Make,
    tmp_path: Path,
    broken: Callable[[Scenario, int], Path],
    supervision: list[dict[str, Any]],
) -> None:
    plan = scenario(tiny, supervision)
    here = run(plan, out=tmp_path, name="here", device="cpu")
    there = run(plan, out=tmp_path, name="there", device="cpu", workers=2)
    assert bits(there.folder) == bits(here.folder)
    stopped = broken(plan, 1)
    resume(stopped)
    assert bits(stopped) == bits(here.folder)


@pytest.mark.parametrize(
    "supervision",
    [
        {**BAGS, "label_privacy": {"kind": "laplace", "epsilon": 1.0}},
        {**BAGS, "label_privacy": {"kind": "gaussian", "epsilon": 1.0, "delta": 1e-4}},
        {**BAGS, "label_privacy": {"kind": "geometric", "epsilon": 1.0}, "project": False},
        {**BAGS, "num_draws": 2, "label_privacy": {"kind": "geometric", "epsilon": 1.0}},
        {"kind": "labels", "label_privacy": {"kind": "randomised_response", "epsilon": 1.0}},
    ],
    ids=["laplace", "gaussian", "geometric", "redrawn", "randomised_response"],
)
def test_what_protects_labels_is_recorded(
    tiny: Make, tmp_path: Path, supervision: dict[str, Any]
) -> None:
    objective = {"kind": "forward_corrected" if supervision["kind"] == "labels" else "bag"}
    record = run(
        scenario(tiny, [supervision], objective=objective, rounds=1), out=tmp_path, device="cpu"
    )
    protected = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert [(entry.round, entry.site, entry.unit) for entry in protected] == [
        (0, name, "label") for name in ("site-00", "site-01", "site-02")
    ]
    mechanism, draws = supervision["label_privacy"], supervision.get("num_draws", 1)
    for entry, row in zip(protected, record.population["sites"], strict=True):
        assert entry.num_units == sum(row["train"]) + sum(row["validation"])
    found = balance(entries(record.ledger), mechanism.get("delta", 0.0))
    (verdict,) = found.federation
    assert verdict.account.delta == mechanism.get("delta", 0.0)
    assert verdict.bounds.high == pytest.approx(draws, rel=1e-3)
    assert any("images" in what for what in found.unprotected)
    report.write(record)
    told = (record.folder / "report" / "results.md").read_text()
    assert summary(verdict) in told
    assert promise(verdict.account) in told
    assert verdict.attack.text("label", verdict.account.relation) in told
    said = CliRunner().invoke(app, ["ledger", str(record.folder)])
    assert said.exit_code == 0
    assert f"{verdict.account.epsilon:.4f}" in said.stdout


def test_randomised_labels_are_told_apart_from_true_ones(tiny: Make) -> None:
    mechanism = {"kind": "randomised_response", "epsilon": 0.5}
    told = open_population(tiny(population={"num_sites": 3}))
    plan = scenario(
        tiny,
        [{"kind": "labels", "label_privacy": mechanism}],
        objective={"kind": "forward_corrected"},
    )
    found = open_population(plan)
    shown, true = found.examples(0, "train"), told.examples(0, "train")
    share = (shown.labels == true.labels).mean()
    assert 0.4 < share < 0.85  # expected e^0.5 / (e^0.5 + 1) = 0.62
    assert shown.confusion is not None
    np.testing.assert_allclose(np.diag(shown.confusion), 0.6225, atol=1e-4)
    assert (found.examples(0, "test").labels == -1).all()


def test_shrunk_predictions_are_read_as_what_they_were(tiny: Make, tmp_path: Path) -> None:
    """What the instance loss has shrunk towards the prior by k, exactly, comes back."""
    rng = np.random.default_rng(0)
    true, prior = rng.dirichlet([2, 2], 50), np.array([0.3, 0.7])
    shrunk = prior + (true - prior) / 8
    said = {"test": {"a": (np.log(shrunk).astype(np.float32), np.zeros(50, np.int64))}}
    ((found, _),) = unshrunk(said, prior, 8.0)["test"].values()
    np.testing.assert_allclose(np.exp(found), true, atol=2e-5)


def test_a_run_is_judged_with_and_without_shrinkage(tiny: Make, tmp_path: Path) -> None:
    plan = scenario(tiny, [BAGS], objective={"kind": "instance"}, rounds=6, baselines=["unshrunk"])
    record = run(plan, out=tmp_path, device="cpu")
    own = [row["value"] for row in record.metrics if _final(row, "auroc")]
    rows = [row for row in record.baselines if row["model"] == "final" and _final(row, "auroc")]
    assert [row["baseline"] for row in rows] == ["unshrunk"]
    assert rows[0]["value"] == pytest.approx(own[0])  # ranking is kept
    losses = [row["value"] for row in record.metrics if _final(row, "loss")]
    wider = [r["value"] for r in record.baselines if r["model"] == "final" and _final(r, "loss")]
    assert wider[0] != pytest.approx(losses[0])
    report.write(record)
    assert "federated, unshrunk" in (record.folder / "report" / "results.md").read_text()


def _final(row: dict[str, Any], metric: str) -> bool:
    return (row["round"], row["split"], row["site"], row["metric"]) == (6, "test", "pooled", metric)


def test_rho_is_chosen_by_validation_bags_and_the_run_repeats_without_trials(
    tiny: Make, tmp_path: Path
) -> None:
    plan = scenario(tiny, [BAGS], objective={"kind": "interpolated_bag", "rho": "auto"})
    record = run(plan, out=tmp_path, device="cpu")
    assert record.folder == run_folder(plan, tmp_path, None)  # as `plan` and hints say
    chosen = record.run["chosen"]
    losses = {float(rho): loss for rho, loss in chosen["bag_loss"].items()}
    assert chosen["rho"] == min(losses, key=losses.__getitem__)
    assert record.scenario["client"]["objective"]["rho"] == chosen["rho"]
    trials = sorted(folder.name for folder in tmp_path.glob("*-trials/*"))
    assert len(trials) == len(losses) == 6
    again = run(from_data(record.scenario, "again"), out=tmp_path, name="again", device="cpu")
    assert bits(again.folder) == bits(record.folder)
    report.write(record)
    said = (record.folder / "report" / "results.md").read_text()
    assert f"rho = {chosen['rho']:g} was chosen by the loss of validation bags" in said
