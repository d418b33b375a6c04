"""One door between our strategies and Flower's, in both directions.

Ours in any Flower app:

    from fedsim.flower.strategy import StrategyAdapter
    from strategies import PrincipalGradient

    strategy = StrategyAdapter(PrincipalGradient(keep=0.8))
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=10)

Flower's in a scenario: `strategy: {kind: flower, name: FedAdam, options: {eta: 0.01}}`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import flwr.app
import flwr.serverapp.strategy
import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy import Strategy as FlowerBase
from torch import Tensor

from fedsim.errors import RunError, ScenarioError
from fedsim.flower.private_gathering import PrivateGathering
from fedsim.flower.updates import Gathering
from fedsim.flower.wire import Array, to_arrays, to_tensor
from fedsim.privacy.private_mean import PrivateMean
from fedsim.scenario import FlowerStrategy, Scenario
from strategies import Strategy, WithServerOptimizer

log = logging.getLogger("flwr")
CPU = torch.device("cpu")
BATCH_NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_SAMPLING = {
    "fraction_train": 1.0,
    "min_train_nodes": 1,
    "min_available_nodes": 1,
}


class StrategyAdapter(FedAvg):
    """A strategy of ours as a Flower strategy: sampling and evaluation are those of FedAvg.

    Updates are formed and added in double precision, so that with one client the global model
    becomes exactly the local one. Buffers never reach the strategy: floating-point ones become
    their mean weighted by examples, integer ones that mean rounded.

    Args:
        strategy: the aggregation rule.
        buffers: names of the model's buffers; by default integer arrays and the statistics of
            batch normalisation, by name.
        device: where updates are added.
        num_sites: of the population; by default those that the grid shows at first.
        private_mean: makes the mean that the strategy looks at the updates through, if it is to be
            private. What is a buffer stays as it is then, and a round may have no client.
        options: keyword arguments of Flower's FedAvg.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        buffers: Collection[str] | None = None,
        device: torch.device = CPU,
        num_sites: int | None = None,
        private_mean: PrivateMean | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.strategy = strategy
        self.buffers = buffers
        self.device = device
        self.num_sites = num_sites
        self.private_mean = private_mean
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
                    name: to_tensor(array).to(self.device)
                    for name, array in arrays.items()
                    if not self._is_buffer(name, array)
                },
                self.num_sites or len(list(grid.get_node_ids())),
            )
        if self.private_mean is not None and not list(grid.get_node_ids()):
            return []
        messages = list(super().configure_train(server_round, arrays, config, grid))
        beside = {
            name: to_arrays(dict(tensors))
            for name, tensors in self.strategy.broadcast(self.state).items()
        }
        for message in messages:
            for name, record in beside.items():
                message.content[name] = record
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the replies, in the order given, into the next global model.

        Replies are taken one by one; a strategy that only needs a mean lets go of each.
        """
        if self.start_arrays is None or self.state is None:
            return None, None
        gathering = self._gathering(server_round, self.start_arrays)
        for reply in self._answered(replies):
            gathering.take(reply.content)
        if not gathering.suffices:
            return None, None
        aggregate, self.state = gathering.aggregate(self.state)
        self._check_shapes(aggregate, gathering.parameters)
        steps = {**aggregate, **gathering.mean_of_buffers()}
        arrays = {
            name: Array(add(to_tensor(array), steps.pop(name))) if name in steps else array
            for name, array in self.start_arrays.items()
        }
        if not gathering.metrics:
            return ArrayRecord(arrays), None
        metrics = self.train_metrics_aggr_fn(gathering.metrics, self.weighted_by_key)
        return ArrayRecord(arrays), metrics

    def _gathering(self, round: int, start: ArrayRecord) -> Gathering | PrivateGathering:
        """Return what takes the replies of a round."""
        buffers = {name for name, array in start.items() if self._is_buffer(name, array)}
        if self.private_mean is None:
            return Gathering(self.strategy, start, buffers, self.weighted_by_key, self.device)
        return PrivateGathering(
            self.strategy, start, buffers, self.private_mean, round, self.device
        )

    def _answered(self, replies: Iterable[Message]) -> Iterator[Message]:
        """Yield the replies that are no errors; the others are logged."""
        for reply in replies:
            if reply.has_error():
                log.info("node %d failed: %s", reply.metadata.src_node_id, reply.error.reason)
            else:
                yield reply

    def _check_shapes(self, aggregate: Mapping[str, Tensor], names: Iterable[str]) -> None:
        assert self.start_arrays is not None
        expected = {name: tuple(self.start_arrays[name].shape) for name in names}
        found = {name: tuple(tensor.shape) for name, tensor in aggregate.items()}
        if found != expected:
            wrong = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
            raise RunError(
                f"strategy {self.strategy.kind!r} must return one update per parameter, of its "
                f"shape; wrong for {', '.join(wrong)}"
            )

    def _is_buffer(self, name: str, array: flwr.app.Array) -> bool:
        if self.buffers is not None:
            return name in self.buffers
        is_float = np.dtype(array.dtype).kind == "f"
        return not is_float or name.rpartition(".")[2] in BATCH_NORM_BUFFERS


def add(values: Tensor, update: Tensor) -> Tensor:
    """Return `values + update` in the dtype of the values, computed in double and rounded once."""
    total = values.to(update.device) + update
    return (total if values.is_floating_point() else total.round()).to(values.dtype)


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


def build(
    scenario: Scenario,
    buffers: Collection[str],
    num_sites: int | None = None,
    device: torch.device = CPU,
    private_mean: PrivateMean | None = None,
) -> FlowerBase:
    """Return the scenario's strategy as Flower's round protocol needs it.

    Args:
        scenario: whose strategy.
        buffers: names of the model's buffers.
        num_sites: of the population.
        device: where updates are added; Flower's own strategies do it on the CPU.
        private_mean: makes the mean of the updates, if the server adds noise to it.

    Raises:
        ScenarioError: if Flower's strategy refuses its options.
    """
    chosen = scenario.strategy
    if isinstance(chosen, FlowerStrategy):
        return _flower(chosen)
    if scenario.server_optimizer is not None:
        chosen = WithServerOptimizer(strategy=chosen, optimizer=scenario.server_optimizer)
    return StrategyAdapter(
        chosen,
        buffers=buffers,
        device=device,
        num_sites=num_sites,
        private_mean=private_mean,
        **_SAMPLING,
    )


def _flower(chosen: FlowerStrategy) -> FlowerBase:
    make: Callable[..., FlowerBase] = getattr(flwr.serverapp.strategy, chosen.name)
    try:
        return make(**chosen.options, **_SAMPLING)
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"strategy.options: {chosen.name} says: {error}") from error


def snapshot(strategy: FlowerBase) -> dict[str, Any]:
    """Return what the strategy remembers, as nested dicts and lists of arrays and plain values."""
    if isinstance(strategy, StrategyAdapter):
        mean = strategy.private_mean
        beside = {} if mean is None else {"private_mean": mean.state()}
        return {"state": strategy.state, **beside}
    return {name: _plain(value) for name, value in vars(strategy).items() if not callable(value)}


def restore(strategy: FlowerBase, memory: Mapping[str, Any]) -> None:
    """Give a fresh strategy the memory that `snapshot` returned."""
    if isinstance(strategy, StrategyAdapter):
        strategy.state = _moved(memory["state"], strategy.device)
        if strategy.private_mean is not None:
            strategy.private_mean.restore(memory["private_mean"])
        return
    for name, value in memory.items():
        setattr(strategy, name, _rich(value))


def _moved(state: Any, device: torch.device) -> Any:
    if isinstance(state, dict):
        return {name: _moved(item, device) for name, item in state.items()}
    return state.to(device) if isinstance(state, Tensor) else state


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
            arrays = {n: flwr.app.Array(np.asarray(a)) for n, a in value["ArrayRecord"].items()}
            return ArrayRecord(arrays)
        return {name: _rich(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rich(item) for item in value]
    return value
