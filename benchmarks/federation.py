"""The small federation of several races, as fedsim and as a bare PyTorch loop run it.

    python benchmarks/federation.py fedsim MODEL NUM_ROUNDS WORKERS
    python benchmarks/federation.py bare MODEL NUM_ROUNDS

20 sites share images of PneumoniaMNIST's shape (4708 for training, 1 x 28 x 28, two classes); batch
size 32, one epoch, SGD, weighted mean. Both commands are sides that take turns, see `turns.py`.
"""

from __future__ import annotations

import copy
import sys
import tempfile

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedsim.data.source import Split
from fedsim.data.synthetic import Synthetic
from fedsim.models import Mlp, Model, SmallCnn
from fedsim.scenario import Client, Data, Evaluation, HeldOut, Scenario, Sites, open_population
from fedsim.simulate import run
from turns import Turn

MODELS: dict[str, Model] = {
    "small_cnn": SmallCnn(widths=(16, 32, 64)),
    "mlp": Mlp(widths=(64,)),
}
BATCH_SIZE, LEARNING_RATE = 32, 0.05


def study(model: str, num_rounds: int, every: int | None = None) -> Scenario:
    """Return the scenario.

    Args:
        model: name of one of `MODELS`.
        num_rounds: of training.
        every: rounds between evaluations; by default only the last round is evaluated.
    """
    return Scenario(
        version=1,
        name=f"benchmark-{model}",
        rounds=num_rounds,
        data=Data(
            source=Synthetic(anatomy="chest", image_size=28, num_examples=4904), task="binary"
        ),
        population=Sites(num_sites=20, held_out=HeldOut(validation=0.02, test=0.02)),
        model=MODELS[model],
        client=Client(epochs=1, batch_size=BATCH_SIZE),
        evaluation=Evaluation(every=every or num_rounds, loss_decomposition=False, num_resamples=0),
    )


def network(scenario: Scenario) -> nn.Module:
    """Return the network with fresh weights."""
    facts = scenario.data.source.facts()
    return scenario.model.build(facts.num_channels, 2, facts.image_size)


def examples(scenario: Scenario, split: Split) -> list[tuple[Tensor, Tensor]]:
    """Return each site's images and labels of a split."""
    population = open_population(scenario)
    parts = [population.examples(site, split) for site in range(len(population))]
    return [(torch.from_numpy(part.images), torch.from_numpy(part.labels)) for part in parts]


class BareLoop:
    """Federated averaging as one would write it in a notebook."""

    def __init__(self, scenario: Scenario) -> None:
        self.model, self.sites = network(scenario), examples(scenario, "train")
        self.state = copy.deepcopy(self.model.state_dict())

    def round(self) -> None:
        """Train every site from the global model and average by examples."""
        total = sum(len(labels) for _, labels in self.sites)
        mean = {name: torch.zeros_like(t) for name, t in self.state.items()}
        for images, labels in self.sites:
            self.model.load_state_dict(self.state)
            self.model.train()
            optimizer = torch.optim.SGD(self.model.parameters(), LEARNING_RATE)
            for index in torch.randperm(len(labels)).split(BATCH_SIZE):
                optimizer.zero_grad()
                loss = cross_entropy(self.model(images[index]), labels[index])
                loss.backward()
                optimizer.step()
            for name, t in self.model.state_dict().items():
                mean[name] += t * (len(labels) / total)
        self.state = mean


def main() -> None:
    """Be one side."""
    turn = Turn()
    match sys.argv[1:]:
        case ["fedsim", model, num_rounds, workers]:
            with tempfile.TemporaryDirectory() as folder:
                run(
                    study(model, int(num_rounds)),
                    out=folder,
                    device="cpu",
                    workers=int(workers),
                    watch=lambda progress: turn(),
                )
        case ["bare", model, num_rounds]:
            torch.set_num_threads(1)
            loop = BareLoop(study(model, int(num_rounds)))
            turn()
            for _ in range(int(num_rounds)):
                loop.round()
                turn()


if __name__ == "__main__":
    main()
