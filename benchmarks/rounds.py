"""What a round costs beside a bare PyTorch loop that does the same steps.

    python benchmarks/rounds.py [--rounds 25]

20 sites share images of PneumoniaMNIST's shape (4708 for training, 1 x 28 x 28, two classes); batch
size 32, one epoch, SGD, weighted mean, one thread. Both sides run in this process, turn and turn
about; the ratio is the median over rounds of (fedsim's round / the bare loop's round). A round of
fedsim is everything between two rounds of a run: messages, training, aggregation, records and the
checkpoint on disk. Evaluation, which the bare loop does not do, happens in the first and the last
round alone, which are not counted. The loss decomposition is off.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedsim.data.synthetic import Synthetic
from fedsim.models import Mlp, Model, SmallCnn
from fedsim.scenario import Client, Data, Evaluation, HeldOut, Scenario, Sites, open_population
from fedsim.simulate import run

BOUNDS = {(1, "small_cnn"): 1.05, (1, "mlp"): 1.25, (2, "small_cnn"): 0.58}
"""(Workers, model) -> the largest ratio that is promised."""
BATCH_SIZE, LEARNING_RATE = 32, 0.05


class BareLoop:
    """Federated averaging as one would write it in a notebook."""

    def __init__(self, scenario: Scenario) -> None:
        population = open_population(scenario)
        examples = [population.examples(site, "train") for site in range(len(population))]
        self.sites = [(torch.from_numpy(e.images), torch.from_numpy(e.labels)) for e in examples]
        facts = scenario.data.source.facts()
        self.model: nn.Module = scenario.model.build(facts.num_channels, 2, facts.image_size)
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


def study(model: Model, rounds: int) -> Scenario:
    """Return the scenario that both sides run."""
    return Scenario(
        version=1,
        name=f"benchmark-{model.kind}",
        rounds=rounds,
        data=Data(
            source=Synthetic(anatomy="chest", image_size=28, num_examples=4904), task="binary"
        ),
        population=Sites(num_sites=20, held_out=HeldOut(validation=0.02, test=0.02)),
        model=model,
        client=Client(epochs=1, batch_size=BATCH_SIZE),
        evaluation=Evaluation(every=rounds, loss_decomposition=False, num_resamples=0),
    )


def measure(model: Model, rounds: int, workers: int) -> list[tuple[float, float]]:
    """Return (fedsim's seconds, the bare loop's seconds) for each counted round."""
    scenario = study(model, rounds)
    bare = BareLoop(scenario)
    pairs, mark = [], 0.0

    def watch(progress: object) -> None:
        nonlocal mark
        seconds = time.perf_counter() - mark
        start = time.perf_counter()
        bare.round()
        pairs.append((seconds, time.perf_counter() - start))
        mark = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        run(scenario, out=folder, device="cpu", workers=workers, watch=watch)
    return pairs[2:-1]


def main() -> None:
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds",
        type=int,
        default=25,
        help="rounds run; the first three and the last are not counted",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes on fedsim's side")
    arguments = parser.parse_args()
    rounds, workers = arguments.rounds, arguments.workers
    print(f"{'model':12}{'fedsim s':>10}{'bare s':>10}{'ratio':>8}{'bound':>8}")
    held = True
    for model in (SmallCnn(widths=(16, 32, 64)), Mlp(widths=(64,))):
        pairs = measure(model, rounds, workers)
        ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        bound = BOUNDS.get((workers, model.kind))
        print(f"{model.kind:12}{ours:10.3f}{bare:10.3f}{ratio:8.3f}{bound or 'none':>8}")
        held &= bound is None or ratio <= bound
    if not held:
        raise SystemExit("a bound does not hold")


if __name__ == "__main__":
    main()
