"""SCAFFOLD, FedProx, FedDyn and MOON as they run, against direct implementations of the papers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from clients.batch import Batch
from clients.eager import EagerSgd
from clients.objectives import Context, CrossEntropy
from clients.regularisers import ControlVariates, Dynamic
from clients.training import Plan
from fedsim.data.population import Examples
from fedsim.execution import execute, own
from fedsim.flower.local_training import train
from fedsim.flower.workplace import Workplace
from fedsim.models import Model
from fedsim.records import RunFolder, RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import run
from strategies import FedDyn, Scaffold, Strategy, WeightedMean

Make = Callable[..., Scenario]
State = dict[str, Tensor]
CPU = torch.device("cpu")
LR, STEPS = 0.2, 4
ON_ALL = {"steps": STEPS, "batch_size": 1000, "optimizer": {"kind": "sgd", "learning_rate": LR}}
POPULATION: dict[str, Any] = {"sites": [], "class_names": [], "images": {}, "checksums": {}}
SOME = {"kind": "fixed_size", "num_sites": 2}


def final(record: RunRecord) -> State:
    path = checkpoint.path_of(record.folder, record.selection.final_round)
    model: State = checkpoint.load(path)["model"]
    return model


class Reference:
    """Sites that train on all of their examples at once, in double precision, by hand."""

    def __init__(self, scenario: Scenario) -> None:
        place = Workplace(scenario, open_population(scenario), CPU)
        self.num_sites = len(place.population)
        self.batches = [place.examples(site, "train") for site in range(self.num_sites)]
        self.start = {name: t.double() for name, t in place.network.initial.items()}

    @staticmethod
    def features(w: State, images: Tensor) -> Tensor:
        """Return the hidden layer of the perceptron."""
        return (images.flatten(1).double() @ w["1.weight"].T + w["1.bias"]).clamp(min=0)

    def loss(self, w: State, site: int) -> Tensor:
        hidden = self.features(w, self.batches[site].images)
        return cross_entropy(hidden @ w["3.weight"].T + w["3.bias"], self.batches[site].labels)

    def descend(self, w: State, loss: Callable[[State], Tensor]) -> State:
        for _ in range(STEPS):
            leaves = {name: t.clone().requires_grad_() for name, t in w.items()}
            gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
            w = {n: t - LR * g for (n, t), g in zip(w.items(), gradients, strict=True)}
        return w


def each(function: Callable[..., Tensor], *states: State) -> State:
    return {name: function(*(state[name] for state in states)) for name in states[0]}


def cohorts(record: RunRecord) -> list[list[int]]:
    return [[int(name[-2:]) for name in row["cohort"]] for row in record.rounds]


def assert_close(found: State, expected: State) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=2e-4, atol=2e-6)


def by_hand(
    tiny: Make, tmp_path: Path, regulariser: dict[str, Any], strategy: dict[str, Any]
) -> tuple[Reference, RunRecord, RunRecord]:
    """Return the reference, the run, and the same run without the method."""
    sections: dict[str, Any] = {"cohort": SOME, "rounds": 4}
    scenario = tiny(client={**ON_ALL, "regulariser": regulariser}, strategy=strategy, **sections)
    record = run(scenario, out=tmp_path, name="run", device="cpu")
    plain = tiny(
        client=ON_ALL, strategy={"kind": "weighted_mean", "weights": "uniform"}, **sections
    )
    reference = Reference(scenario)
    assert {len(cohort) for cohort in cohorts(record)} < {reference.num_sites, 2}
    return reference, record, run(plain, out=tmp_path, name="plain", device="cpu")


def test_scaffold_is_algorithm_1_with_option_2(tiny: Make, tmp_path: Path) -> None:
    reference, record, plain = by_hand(
        tiny, tmp_path, {"kind": "control_variates"}, {"kind": "scaffold"}
    )
    x, c = reference.start, each(torch.zeros_like, reference.start)
    own_c = [c] * reference.num_sites
    for cohort in cohorts(record):
        moves, changes = [], []
        for i in cohort:
            tilt = each(torch.sub, c, own_c[i])

            def tilted(w: State, i: int = i, tilt: State = tilt) -> Tensor:
                return reference.loss(w, i) + sum((tilt[n] * w[n]).sum() for n in w)

            y = reference.descend(x, tilted)
            after = each(lambda ci, c, x, y: ci - c + (x - y) / (STEPS * LR), own_c[i], c, x, y)
            moves.append(each(torch.sub, y, x))
            changes.append(each(torch.sub, after, own_c[i]))
            own_c[i] = after
        x = each(lambda x, *d: x + sum(d) / len(d), x, *moves)
        c = each(lambda c, *d: c + sum(d) / reference.num_sites, c, *changes)
    assert_close(final(record), x)
    with pytest.raises(AssertionError):
        assert_close(final(plain), x)


PLANS = {
    "smaller last batch": Plan(16, epochs=2),
    "drop last": Plan(16, epochs=2, drop_last=True),
    "cut short": Plan(16, epochs=2, max_steps=3),
    "parts": Plan(16, steps=5, part_size=5, precision="bf16"),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("round", [1, 3])
def test_a_control_variate_is_the_mean_gradient_of_the_steps_that_were_taken(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, plan: Plan, round: int
) -> None:
    scenario = tiny(
        population={"num_sites": 3, "partition": {"kind": "iid"}},
        client={
            **ON_ALL,
            "optimizer": {"kind": "sgd", "learning_rate": LR, "weight_decay": 0.01},
            "schedule": {"kind": "cosine"},
            "regulariser": {"kind": "control_variates"},
        },
        strategy={"kind": "scaffold"},
    )
    place, taken = Workplace(scenario, open_population(scenario), CPU), list[list[Tensor]]()
    step = EagerSgd.step

    def noted(optimizer: EagerSgd) -> None:
        (group,) = optimizer.param_groups
        taken.append([w.grad + 0.01 * w.detach() for w in group["params"]])
        step(optimizer)

    monkeypatch.setattr(EagerSgd, "step", noted)
    initial = place.network.initial
    c, own_c = (each(lambda w, f=f: f * w, initial) for f in (0.1, -0.2))
    found = train(
        place, 0, round, initial, 0.0, plan, {"control": c}, {"regulariser": own_c}
    ).memory["regulariser"]
    assert len(taken) == plan.num_steps(len(place.examples(0, "train"))) > 1
    for name, gradients in zip(initial, zip(*taken, strict=True), strict=True):
        own = torch.stack(gradients).mean(0) - (c[name] - own_c[name])
        torch.testing.assert_close(found[name], own, rtol=1e-4, atol=2e-6)


def test_fed_dyn_is_algorithm_1(tiny: Make, tmp_path: Path) -> None:
    alpha = 0.3
    reference, record, plain = by_hand(
        tiny, tmp_path, {"kind": "dynamic", "alpha": alpha}, {"kind": "fed_dyn", "alpha": alpha}
    )
    theta, h = reference.start, each(torch.zeros_like, reference.start)
    gradient = [h] * reference.num_sites
    for cohort in cohorts(record):
        models = []
        for k in cohort:

            def dynamic(w: State, k: int = k, before: State = theta) -> Tensor:
                linear = sum((gradient[k][n] * w[n]).sum() for n in w)
                quadratic = sum((w[n] - before[n]).pow(2).sum() for n in w)
                return reference.loss(w, k) - linear + alpha / 2 * quadratic

            models.append(reference.descend(theta, dynamic))
            gradient[k] = each(lambda g, w, t: g - alpha * (w - t), gradient[k], models[-1], theta)
        moved = [each(torch.sub, w, theta) for w in models]
        h = each(lambda h, *d: h - alpha * sum(d) / reference.num_sites, h, *moved)
        theta = each(lambda h, *w: sum(w) / len(w) - h / alpha, h, *models)
    assert_close(final(record), theta)
    with pytest.raises(AssertionError):
        assert_close(final(plain), theta)


def test_fed_prox_holds_sites_near_the_global_model(tiny: Make, tmp_path: Path) -> None:
    strategy = {"kind": "weighted_mean", "weights": "uniform"}
    regulariser = {"kind": "proximal", "weight": 1.5}
    reference, record, plain = by_hand(tiny, tmp_path, regulariser, strategy)
    w = reference.start
    for cohort in cohorts(record):

        def near(v: State, k: int, w: State = w) -> Tensor:
            return reference.loss(v, k) + 0.75 * sum((v[n] - w[n]).pow(2).sum() for n in w)

        models = [reference.descend(w, partial(near, k=k)) for k in cohort]
        w = each(lambda *m: sum(m) / len(m), *models)
    assert_close(final(record), w)
    with pytest.raises(AssertionError):
        assert_close(final(plain), w)
    assert not (record.folder / "memory").exists()


def test_moon_draws_features_to_the_global_model(tiny: Make, tmp_path: Path) -> None:
    mu, tau = 5.0, 0.5
    strategy = {"kind": "weighted_mean", "weights": "uniform"}
    regulariser = {"kind": "contrastive", "weight": mu, "temperature": tau}
    reference, record, plain = by_hand(tiny, tmp_path, regulariser, strategy)
    w = reference.start
    previous: dict[int, State] = {}

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        squares = a.pow(2).sum(1) * b.pow(2).sum(1)  # zero where no unit of the layer is active
        return (a * b).sum(1) / squares.clamp(min=1e-16).sqrt()

    for cohort in cohorts(record):
        models = []
        for k in cohort:

            def contrastive(v: State, k: int = k, w: State = w) -> Tensor:
                images = reference.batches[k].images
                if k not in previous:
                    return reference.loss(v, k)
                z, near, far = (reference.features(s, images) for s in (v, w, previous[k]))
                pull, push = (torch.exp(similarity(z, o.detach()) / tau) for o in (near, far))
                return reference.loss(v, k) - mu * torch.log(pull / (pull + push)).mean()

            models.append(reference.descend(w, contrastive))
        previous.update(zip(cohort, models, strict=True))
        w = each(lambda *m: sum(m) / len(m), *models)
    assert_close(final(record), w)
    with pytest.raises(AssertionError):
        assert_close(final(plain), w)


class Squares(CrossEntropy):
    """Mean squared error against the class as a vector: quadratic in a linear network."""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        target = one_hot(batch.labels, 2).float()
        return mse_loss(model(batch.images), target, reduction="sum") / len(batch) / 2


class Linear(Model):
    """A linear layer on the first four pixels."""

    kind: Literal["linear"] = "linear"

    @property
    def min_image_size(self) -> int:
        """Any image will do."""
        return 2

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        return nn.Sequential(nn.Flatten(), Head(), nn.Linear(4, num_classes, bias=False))


class Head(nn.Module):
    """The first four numbers of each example."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :4]


def quadratic(
    tiny: Make, tmp_path: Path, strategy: Strategy, regulariser: Any
) -> tuple[Tensor, Tensor]:
    """Return where a federation of three unlike sites ends, and its optimum."""
    base = tiny(rounds=60, evaluation={"loss_decomposition": False, "every": 60})
    client = base.client.model_copy(
        update={
            **{"steps": 10, "epochs": None, "batch_size": 1000},
            "objective": Squares(),
            "regulariser": regulariser,
        }
    )
    changes = {"client": client, "model": Linear(), "strategy": strategy}
    scenario, population = base.model_copy(update=changes), open_population(base)
    curvature, pull = torch.zeros(4, 4).double(), torch.zeros(2, 4).double()
    rng = np.random.default_rng(5)
    for site in range(3):
        images, labels = rng.normal(size=(40, 1, 16, 16)), rng.integers(2, size=40)
        images[:, 0, 0, :4] *= rng.uniform(0.5, 1.5, 4)
        images[:, 0, 0, :4] += 2 * (labels[:, None] == site % 2)
        population.kept[site, "train"] = Examples(images.astype(np.float32), labels)
        X = torch.from_numpy(images[:, 0, 0, :4].astype(np.float32)).double()
        Y = one_hot(torch.from_numpy(labels), 2).double()
        curvature, pull = curvature + X.T @ X / 40, pull + Y.T @ X / 40
    data = {"scenario": base.resolved(), "digest": base.digest, "population": POPULATION}
    folder = RunFolder.create(tmp_path / scenario.strategy.kind, **data, keep_every=None)
    record = execute(scenario, population, folder, [CPU], partial(own, [CPU], 1), lambda p: None)
    return final(record)["2.weight"].double(), pull @ torch.linalg.inv(curvature)


def test_scaffold_and_fed_dyn_reach_the_optimum_where_fed_avg_stops_short(
    tiny: Make, tmp_path: Path
) -> None:
    methods: dict[str, tuple[Strategy, Any]] = {
        "fed_avg": (WeightedMean(weights="uniform"), None),
        "scaffold": (Scaffold(), ControlVariates()),
        "fed_dyn": (FedDyn(alpha=1.0), Dynamic(alpha=1.0)),
    }
    distance = {}
    for name, (strategy, regulariser) in methods.items():
        found, optimum = quadratic(tiny, tmp_path, strategy, regulariser)
        distance[name] = float((found - optimum).norm() / optimum.norm())
    assert distance["fed_avg"] > 0.05, distance
    assert distance["scaffold"] < 1e-3, distance
    assert distance["fed_dyn"] < 1e-3, distance
