"""What a private step costs beside the same step without privacy, and beside Opacus' own modes.

    python benchmarks/dp_step.py
    python benchmarks/dp_step.py --repeats 9 --batch-sizes 64

Every side trains the same network on batches of the same size with plain SGD, on one thread, in one
process: the training loop of a run without privacy, `train_private`, and Opacus' `DPOptimizer` on
a network wrapped in each of its modes. A turn is some steps of every side, one after the other, and
ratios are medians over turns: times vary with the machine and with what else it does, ratios much
less. They are processor seconds, so that other processes count for little. Freed memory is kept, as
in a run. Images are of one channel and 28 pixels, like MedMNIST's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from opacus.grad_sample import wrap_model
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn

from clients.batch import Batch
from clients.dpsgd import DpSgd, train_private
from clients.eager import EagerSgd
from clients.objectives import Context, CrossEntropy
from clients.training import Plan, train
from fedsim.engines.allocator import freed_memory_kept
from fedsim.models import Mlp, Model, SmallCnn
from results import arguments, write
from turns import quotient

NETWORKS: dict[str, Model] = {"small_cnn": SmallCnn(), "mlp": Mlp()}
MODES = ("hooks", "functorch", "ew", "ghost")
NUM_CLASSES, IMAGE_SIZE = 2, 28
AIM_OPACUS, AIM_PLAIN = 1.05, 1.6

Side = Callable[[], object]


def main() -> None:
    """Measure and write a table."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--steps", type=int, default=10, help="of every side in a turn")
    parser.add_argument("--repeats", type=int, default=15, help="turns")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.networks:
        for batch_size in options.batch_sizes:
            with freed_memory_kept():
                times = race(NETWORKS[name], batch_size, options.steps, options.repeats)
            rows.append([name, str(batch_size), *compared(times, options.steps)])
    columns = ["network", "batch", "plain, ms", "private, ms", "private / plain"]
    columns += ["best of Opacus", "private / best of Opacus"]
    columns += [f"{mode} / plain" for mode in MODES]
    note = (
        "Milliseconds of a step (median) and ratios (median over turns). Aims: private / best of "
        f"Opacus {AIM_OPACUS}, private / plain {AIM_PLAIN} for small_cnn."
    )
    write(options.results, "A private step", columns, rows, note=note, also=["opacus 1.6.0"])


def compared(times: dict[str, list[float]], steps: int) -> list[str]:
    """Return the cells of a row."""
    plain, private = times["plain"], times["private"]
    best = min(MODES, key=lambda mode: quotient(times[mode], plain))
    return [
        f"{1e3 * median(plain) / steps:.2f}",
        f"{1e3 * median(private) / steps:.2f}",
        f"{quotient(private, plain):.2f}",
        best,
        f"{quotient(private, times[best]):.2f}",
        *[f"{quotient(times[mode], plain):.2f}" for mode in MODES],
    ]


def race(model: Model, batch_size: int, steps: int, repeats: int) -> dict[str, list[float]]:
    """Return the processor seconds of every turn of each side."""
    network = model.build(1, NUM_CLASSES, IMAGE_SIZE)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch_size, 1, IMAGE_SIZE, IMAGE_SIZE), generator=generator)
    examples = Batch(images, torch.randint(NUM_CLASSES, (batch_size,), generator=generator))
    sides = {
        "plain": plain(deepcopy(network), examples, steps),
        "private": private(deepcopy(network), examples, steps),
        **{mode: opacus(deepcopy(network), examples, steps, mode) for mode in MODES},
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.process_time()
            side()
            times[name].append(time.process_time() - start)
    return times


def plain(network: nn.Module, examples: Batch, steps: int) -> Side:
    """Return a turn of the training loop without privacy."""
    plan, optimizer = Plan(len(examples), steps=steps), EagerSgd(network.parameters(), 0.01)
    context, order = Context(examples.class_counts(NUM_CLASSES)), torch.Generator()
    return lambda: train(
        network, examples, plan, CrossEntropy(), optimizer, context=context, generator=order
    )


def private(network: nn.Module, examples: Batch, steps: int) -> Side:
    """Return a turn of ours, with samples of all examples."""
    mechanism = DpSgd(1.0, 1.0, 1.0, steps)
    optimizer = EagerSgd(network.parameters(), 0.01)
    return lambda: train_private(
        network,
        examples,
        mechanism,
        CrossEntropy(),
        optimizer,
        context=Context(examples.class_counts(NUM_CLASSES)),
        sampling=torch.Generator(),
        noise=torch.Generator(),
    )


def opacus(network: nn.Module, examples: Batch, steps: int, mode: str) -> Side:
    """Return a turn of Opacus on the same batch over and over."""
    wrapped: Any = wrap_model(network, grad_sample_mode=mode)
    kind = DPOptimizerFastGradientClipping if mode == "ghost" else DPOptimizer
    optimizer: Any = kind(
        EagerSgd(network.parameters(), 0.01),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=len(examples),
        generator=torch.Generator(),
    )
    criterion: Any = nn.CrossEntropyLoss()
    if mode == "ghost":
        criterion = DPLossFastGradientClipping(wrapped, optimizer, criterion)

    def turn() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            criterion(wrapped(examples.images), examples.labels).backward()
            optimizer.step()

    return turn


if __name__ == "__main__":
    main()
