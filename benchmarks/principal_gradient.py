"""What principal-gradient aggregation costs beside a weighted mean: time and memory.

    python benchmarks/principal_gradient.py
    python benchmarks/principal_gradient.py --parameters 1000000 --sites 5

Both aggregate the same float32 updates on one thread, in turn, in one process, for one layer that
holds every parameter and for many layers. The ratio is the median over pairs of neighbouring runs:
times vary with the machine and with what else it does, their ratio much less. Memory is the highest
resident size during one aggregation less that before it, in units of one update; the aggregate that
is returned counts as one copy. The layers have moved before, so that no first round is timed.

The last row is the whole server step of a run, from the messages of the sites to the next global
model: there updates are formed in double precision, one layer at a time.
"""

import ctypes
import gc
import logging
import mmap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from flwr.app import Message, RecordDict
from torch import Tensor

from fedsim.engines.inline import flower_identity
from fedsim.flower.local_training import Trained
from fedsim.flower.strategy import StrategyAdapter
from fedsim.flower.wire import to_arrays, train_reply
from process_memory import sampled
from results import arguments, write
from strategies import PrincipalGradient, Strategy, WeightedMean

TIME_BOUND = 3.0
COPIES_BOUND = 2.0
PAUSE_S = 0.001


def main() -> None:
    """Measure, write a table, and fail if a bound is broken."""
    parser = arguments(__doc__)
    parser.add_argument("--parameters", type=int, default=25_000_000)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    found = {}
    for name, layers in (("one layer", 1), ("100 layers", 100)):
        updates = make_updates(options.parameters // layers, options.sites, layers)
        found[name] = compare(updates, options.repeats)
        del updates
    held = all(ratio(times) <= TIME_BOUND and c <= COPIES_BOUND for times, c in found.values())
    found["server step, 100 layers"] = compare_servers(
        options.parameters // 100, options.sites, options.repeats
    )
    columns = ["what", "weighted mean, s", "principal gradient, s", "ratio", "extra copies"]
    note = (
        f"{options.sites} updates of {options.parameters:,} float32 parameters, one thread; "
        f"medians of {options.repeats} of each side, in turn. Bounds of the first two rows: ratio "
        f"{TIME_BOUND:g}, extra copies {COPIES_BOUND:g}."
    )
    rows = [row(name, *measured) for name, measured in found.items()]
    write(options.results, "Principal-gradient aggregation", columns, rows, note=note)
    if not held:
        raise SystemExit("a bound does not hold")


def row(what: str, times: Sequence[tuple[float, float]], copies: float) -> list[str]:
    """Return the cells of a row."""
    mean, principal = (median(column) for column in zip(*times, strict=True))
    return [what, f"{mean:.3f}", f"{principal:.3f}", f"{ratio(times):.2f}", f"{copies:.2f}"]


def ratio(times: Sequence[tuple[float, float]]) -> float:
    """Return how much longer the principal gradient takes, the median over pairs of runs."""
    return median(principal / mean for mean, principal in times)


def make_updates(parameters: int, sites: int, layers: int) -> dict[str, Tensor]:
    """Return client updates that share a direction, each layer (site, parameter), float32."""
    generator = torch.Generator().manual_seed(0)
    updates = {}
    for layer in range(layers):
        stack = torch.randn(sites, parameters, generator=generator)
        stack += torch.randn(parameters, generator=generator)
        updates[f"layer{layer}"] = stack
    return updates


def compare(updates: Mapping[str, Tensor], repeats: int) -> tuple[list[tuple[float, float]], float]:
    """Return seconds of mean and principal gradient per repeat, and extra copies of the latter."""
    mean, principal = prepared(WeightedMean(), updates), prepared(PrincipalGradient(), updates)
    times = [(seconds(mean), seconds(principal)) for _ in range(repeats)]
    copies = peak_memory(principal) / sum(stack[0].nbytes for stack in updates.values())
    return times, copies


def compare_servers(
    parameters: int, sites: int, repeats: int
) -> tuple[list[tuple[float, float]], float]:
    """Return the same for Flower's `aggregate_train` on models of 100 layers."""
    generator = torch.Generator().manual_seed(0)
    start = {f"layer{n}": torch.randn(parameters, generator=generator) for n in range(100)}
    drift = {name: torch.randn(t.shape, generator=generator) for name, t in start.items()}
    with flower_identity():
        sent = Message(RecordDict(), dst_node_id=2, message_type="train")
        replies = [
            train_reply(
                sent,
                Trained(
                    {
                        name: t + 0.01 * (drift[name] + torch.randn(t.shape, generator=generator))
                        for name, t in start.items()
                    },
                    loss=1.0,
                    num_examples=1,
                    num_steps=1,
                ),
            )
            for _ in range(sites)
        ]

    def server(strategy: Strategy) -> Callable[[], object]:
        adapter = StrategyAdapter(strategy)
        adapter.start_arrays, adapter.state = to_arrays(start), strategy.init(start, sites)
        adapter.aggregate_train(1, replies)
        return lambda: adapter.aggregate_train(2, replies)

    mean, principal = server(WeightedMean()), server(PrincipalGradient())
    times = [(seconds(mean), seconds(principal)) for _ in range(repeats)]
    return times, peak_memory(principal) / sum(t.nbytes for t in start.values())


def seconds(run: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def prepared(strategy: Strategy, updates: Mapping[str, Tensor]) -> Callable[[], object]:
    """Return one aggregation of the updates by a strategy that has aggregated them before."""
    examples = torch.ones(len(next(iter(updates.values()))), dtype=torch.float64)
    initial = strategy.init({n: stack[0] for n, stack in updates.items()}, len(examples))
    _, state = strategy.aggregate(updates, examples, initial)
    return lambda: strategy.aggregate(updates, examples, state)


def peak_memory(run: Callable[[], object]) -> int:
    """Return by how many bytes the resident size rose at most while `run` ran (Linux, glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would hide what is allocated
    before = resident()
    with sampled(resident, PAUSE_S) as sizes:
        result = run()
        sizes.append(resident())
    del result
    return max(sizes) - before


def resident() -> int:
    """Return the resident size of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


if __name__ == "__main__":
    main()
