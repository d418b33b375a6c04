"""A small federation to try candidates on: no messages, no records, the sites of fedsim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clients.metrics import Predictions, auroc
from clients.optimizer import Sgd
from fedsim.data.medmnist import MedMnist
from fedsim.data.partition import Dirichlet
from fedsim.data.synthetic import Synthetic
from fedsim.flower.local_training import train
from fedsim.flower.workplace import Workplace
from fedsim.models import SmallCnn
from fedsim.scenario import Client, Data, Scenario, Sites, open_population
from rule_search.candidates import Candidate

SOURCES = {
    "synthetic": Synthetic(anatomy="chest", image_size=28, num_examples=1500),
    "retinamnist": MedMnist(name="retinamnist"),
    "pneumoniamnist": MedMnist(name="pneumoniamnist"),
}
LABELS = {"retinamnist": {0: 0, 1: 0, 2: 1, 3: 1, 4: 1}}


@dataclass(frozen=True)
class Trial:
    """What tuning draws.

    Args:
        client_rate: learning rate of the sites.
        server_rate: what the aggregate is multiplied with.
        knob: of the rule.
    """

    client_rate: float
    server_rate: float
    knob: float


def study(data: str, seed: int, rounds: int, alpha: float, client_rate: float) -> Scenario:
    """Return the scenario: five unequal sites and the CNN with stride 2."""
    return Scenario(
        version=1,
        name="rule-search",
        seed=seed,
        rounds=rounds,
        data=Data(source=SOURCES[data], task="binary", label_map=LABELS.get(data)),
        population=Sites(num_sites=5, partition=Dirichlet(alpha=alpha)),
        model=SmallCnn(widths=(8, 16, 32), stride=2),
        client=Client(epochs=1, batch_size=32, optimizer=Sgd(learning_rate=client_rate)),
    )


def score(candidate: Candidate, trial: Trial, scenario: Scenario) -> float:
    """Return the pooled AUROC on validation images after the last round; 0 if training diverged."""
    place = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    sites = range(len(place.population.names))
    model: dict[str, Tensor] = dict(place.network.initial)
    last: dict[str, Tensor] = {}
    for round in range(1, scenario.rounds + 1):
        locals_, sizes = [], []
        for site in sites:
            trained = train(place, site, round, model)
            locals_.append({n: t.detach().double() for n, t in trained.state.items()})
            sizes.append(trained.num_examples)
        p = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        updates = {n: torch.stack([w[n] - model[n] for w in locals_]) for n in model}
        if not all(bool(stack.isfinite().all()) for stack in updates.values()):
            return 0.0
        buffers = {n: torch.tensordot(p, updates.pop(n), 1) for n in place.network.buffers}
        last = candidate.aggregate(updates, p, last, trial.knob)
        steps = {n: trial.server_rate * step for n, step in last.items()} | buffers
        model = {n: (value + steps[n]).to(value.dtype) for n, value in model.items()}
    return _auroc(place, model)


def _auroc(place: Workplace, model: Mapping[str, Tensor]) -> float:
    groups = [place.examples(site, "validation") for site in place.population.holders]
    scores = torch.cat(place.network.predict(model, *groups))
    labels = torch.cat([group.labels for group in groups])
    found = auroc(Predictions(scores.double().numpy(), labels.numpy(), 1))
    return 0.0 if found is None else found
