"""One door between our strategies and Flower's, in both directions.

Ours in any Flower app:

    from fedsim.flower.strategy import StrategyAdapter
    from strategies import PrincipalGradient

    strategy = StrategyAdapter(PrincipalGradient(keep=0.8))
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=10)

Flower's in a scenario: `strategy: {kind: flower, name: FedAdam, options: {eta: 0.01}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import flwr.serverapp.strategy
import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy import Strategy as FlowerBase
from numpy.typing import NDArray
from torch import Tensor

from fedsim.errors import RunError, ScenarioError
from fedsim.flower.wire import to_array, to_tensor, view
from fedsim.scenario import FlowerStrategy, Scenario
from strategies import Strategy, WithServerOptimizer

BATCH_NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_SAMPLING = {
    "fraction_train": 1.0,
    "min_train_nodes": 1,
    "min_available_nodes": 1,
}


class Stacked(Mapping[str, Tensor]):
    """Client updates stacked over sites, one parameter at a time and only while it is looked at.

    Args:
        names: of the parameters.
        start: the global parameters that the clients started from.
        local: one record per site.
    """

    def __init__(
        self, names: Collection[str], start: ArrayRecord, local: list[ArrayRecord]
    ) -> None:
        self.names, self.start, self.local = names, start, local

    def __getitem__(self, name: str) -> Tensor:
        start = view(self.start[name])
        stack = np.empty((len(self.local), *start.shape), np.float64)
        for site, record in enumerate(self.local):
            np.subtract(view(record[name]), start, out=stack[site, ...], dtype=np.float64)
        return torch.from_numpy(stack)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class StrategyAdapter(FedAvg):
    """A strategy of ours as a Flower strategy: sampling and evaluation are those of FedAvg.

    Updates are formed and added in double precision, so that with one client the global model
    becomes exactly the local one. Buffers never reach the strategy: floating-point ones become
    their mean weighted by examples, integer ones that mean rounded.

    Args:
        strategy: the aggregation rule.
        buffers: names of the model's buffers; by default integer arrays and the statistics of
            batch normalisation, by name.
        options: keyword arguments of Flower's FedAvg.
    """

    def __init__(
        self, strategy: Strategy, *, buffers: Collection[str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.strategy = strategy
        self.buffers = buffers
        self.state: dict[str, Any] | None = None
        self.start_arrays: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember what the clients start from and send it to them."""
        self.start_arrays = arrays
        if self.state is None:
            self.state = self.strategy.init(
                {
                    name: to_tensor(array)
                    for name, array in arrays.items()
                    if not self._is_buffer(name, view(array))
                }
            )
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the replies, in the order given, into the next global model."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid or self.start_arrays is None or self.state is None:
            return None, None
        contents = [message.content for message in valid]
        local = [next(iter(content.array_records.values())) for content in contents]
        weights = torch.tensor(
            [float(_weight(message, self.weighted_by_key)) for message in valid],
            dtype=torch.float64,
        )
        start = {name: view(array) for name, array in self.start_arrays.items()}
        buffers = {name for name, values in start.items() if self._is_buffer(name, values)}
        updates = Stacked([n for n in start if n not in buffers], self.start_arrays, local)
        aggregate, self.state = self.strategy.aggregate(updates, weights, self.state)
        self._check_shapes(aggregate, updates)
        aggregate = dict(aggregate)  # what the strategy returned may be part of its state
        for name in buffers:
            rows = Stacked([name], self.start_arrays, local)[name]
            aggregate[name] = torch.tensordot(weights / weights.sum(), rows, dims=1)
        arrays = {
            name: to_array(torch.from_numpy(add(values, aggregate.pop(name).numpy())))
            for name, values in start.items()
        }
        return ArrayRecord(arrays), self.train_metrics_aggr_fn(contents, self.weighted_by_key)

    def _check_shapes(self, aggregate: Mapping[str, Tensor], updates: Stacked) -> None:
        expected = {name: tuple(updates.start[name].shape) for name in updates}
        found = {name: tuple(tensor.shape) for name, tensor in aggregate.items()}
        if found != expected:
            wrong = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
            raise RunError(
                f"strategy {self.strategy.kind!r} must return one update per parameter, of its "
                f"shape; wrong for {', '.join(wrong)}"
            )

    def _is_buffer(self, name: str, values: NDArray[Any]) -> bool:
        if self.buffers is not None:
            return name in self.buffers
        return values.dtype.kind != "f" or name.rpartition(".")[2] in BATCH_NORM_BUFFERS


def add(values: NDArray[Any], update: NDArray[Any]) -> NDArray[Any]:
    """Return `values + update` in the dtype of the values, computed in double and rounded once."""
    total = values + update
    rounded = total if values.dtype.kind == "f" else np.rint(total)
    return np.asarray(rounded, dtype=values.dtype)


def rounded_like(model: Mapping[str, Tensor], arrays: ArrayRecord) -> dict[str, Tensor]:
    """Return what a strategy made as a model of the same names, shapes and dtypes as before.

    Flower's strategies average integer buffers to fractions and drop the shape of scalars.
    """
    after = {}
    for name, before in model.items():
        tensor = to_tensor(arrays[name]).reshape(before.shape)
        rounding = tensor.is_floating_point() and not before.is_floating_point()
        after[name] = (tensor.round() if rounding else tensor).to(before.dtype)
    return after


def build(scenario: Scenario, buffers: Collection[str]) -> FlowerBase:
    """Return the scenario's strategy as Flower's round protocol needs it.

    Raises:
        ScenarioError: if Flower's strategy refuses its options.
    """
    chosen = scenario.strategy
    if isinstance(chosen, FlowerStrategy):
        return _flower(chosen)
    if scenario.server_optimizer is not None:
        chosen = WithServerOptimizer(strategy=chosen, optimizer=scenario.server_optimizer)
    return StrategyAdapter(chosen, buffers=buffers, **_SAMPLING)


def _flower(chosen: FlowerStrategy) -> FlowerBase:
    make: Callable[..., FlowerBase] = getattr(flwr.serverapp.strategy, chosen.name)
    try:
        return make(**chosen.options, **_SAMPLING)
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"strategy.options: {chosen.name} says: {error}") from error


def snapshot(strategy: FlowerBase) -> dict[str, Any]:
    """Return what the strategy remembers, as nested dicts and lists of arrays and plain values."""
    if isinstance(strategy, StrategyAdapter):
        return {"state": strategy.state}
    return {name: _plain(value) for name, value in vars(strategy).items() if not callable(value)}


def restore(strategy: FlowerBase, memory: Mapping[str, Any]) -> None:
    """Give a fresh strategy the memory that `snapshot` returned."""
    for name, value in memory.items():
        setattr(strategy, name, _rich(value))


def _plain(value: Any) -> Any:
    if isinstance(value, ArrayRecord):
        return {"ArrayRecord": {name: array.numpy() for name, array in value.items()}}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"ArrayRecord"}:
            return ArrayRecord({n: Array(np.asarray(a)) for n, a in value["ArrayRecord"].items()})
        return {name: _rich(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rich(item) for item in value]
    return value


def _weight(message: Message, key: str) -> float:
    metrics = next(iter(message.content.metric_records.values()))
    value = metrics[key]
    return float(value) if isinstance(value, int | float) else float(value[0])
