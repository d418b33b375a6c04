"""The client updates of a round as a strategy sees them: all of them, or one sum that grows.

An update is the local model minus the global one, in double precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import flwr.app
import numpy as np
import torch
from flwr.app import RecordDict
from torch import Tensor

from fedsim.errors import RunError
from fedsim.flower.wire import Array, to_tensor, view
from strategies import Strategy
from strategies.base import State

Arrays = Mapping[str, flwr.app.Array]
CHUNK = 2**16
"""Numbers that are widened at a time, so that no model is held in double precision."""


class Stacked(Mapping[str, Tensor]):
    """Client updates stacked over sites, one parameter at a time and only while it is looked at.

    Args:
        names: of the parameters.
        start: the global model that the clients started from.
        local: one record per site.
        device: where the stacks are.
    """

    def __init__(
        self,
        names: Collection[str],
        start: Arrays,
        local: Sequence[Arrays],
        device: torch.device,
    ) -> None:
        self.names, self.start, self.local, self.device = names, start, local, device

    def __getitem__(self, name: str) -> Tensor:
        start = self.start[name]
        shape = (len(self.local), *start.shape)
        stack = torch.empty(shape, dtype=torch.float64, device=self.device)
        for site, record in enumerate(self.local):
            _put(stack[site, ...], record[name], start)
        return stack

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Sum:
    """The sum of a_k times the update of site k, of which no update is kept or even formed.

    Local models are added up, and the global one is taken off once: sum a_k w_k - (sum a_k) w. All
    is in units of the first a_k, so that the mean of one update is that update.

    Args:
        names: of the parameters.
        start: the global model that the clients started from.
        device: where the sum is.
    """

    def __init__(self, names: Collection[str], start: Arrays, device: torch.device) -> None:
        self._start, self._unit, self._num_units = start, 0.0, 0.0
        self._totals = {
            name: torch.zeros(tuple(start[name].shape), dtype=torch.float64, device=device)
            for name in names
        }

    def add(self, local: Arrays, coefficient: float) -> None:
        """Add a site's update.

        Args:
            local: its model.
            coefficient: a_k, non-negative.
        """
        if not coefficient:
            return
        self._unit = self._unit or coefficient
        factor = coefficient / self._unit
        self._num_units += factor
        for name, total in self._totals.items():
            _add(total, local[name], factor)

    def mean(self, divisor: float) -> dict[str, Tensor]:
        """Return the sum divided, by name; after this the sum is used up."""
        for name, total in self._totals.items():
            _add(total, self._start[name], -self._num_units)
            total /= divisor / (self._unit or 1.0)
        return self._totals


def _put(target: Tensor, local: flwr.app.Array, start: flwr.app.Array) -> None:
    """Set target = local - start, in double precision."""
    if target.device.type == "cpu":
        np.subtract(view(local), view(start), out=target.numpy(), dtype=np.float64)
    else:
        _put_on_device(target, local, start)


def _put_on_device(target: Tensor, local: flwr.app.Array, start: flwr.app.Array) -> None:
    target.copy_(to_tensor(local)).sub_(to_tensor(start).to(target.device))


def _add(total: Tensor, array: flwr.app.Array, factor: float) -> None:
    """Add factor * array in double precision."""
    if total.device.type == "cpu":
        _add_on_cpu(total, array, factor)
    else:
        _add_on_device(total, array, factor)


def _add_on_cpu(total: Tensor, array: flwr.app.Array, factor: float) -> None:
    sums, values = total.numpy().ravel(), view(array).ravel()
    wide = np.empty(min(CHUNK, len(sums)))
    for first in range(0, len(sums), CHUNK):
        part = slice(first, first + CHUNK)
        term = wide[: len(sums[part])]
        term[...] = values[part]  # faster than a cast inside multiply
        if factor != 1.0:
            term *= factor
        sums[part] += term


def _add_on_device(total: Tensor, array: flwr.app.Array, factor: float) -> None:
    total.add_(to_tensor(array).to(total.device, torch.float64), alpha=factor)


class Gathering:
    """The replies of a round, taken one by one; a rule that needs a mean alone lets go of each.

    Args:
        strategy: what aggregates.
        start: the global model that the clients started from.
        buffers: names of what is no parameter; it becomes its mean weighted by examples.
        weighted_by: name of the examples among the metrics of a reply.
        device: where updates are added.
    """

    def __init__(
        self,
        strategy: Strategy,
        start: Arrays,
        buffers: Collection[str],
        weighted_by: str,
        device: torch.device,
    ) -> None:
        self._strategy, self._device = strategy, device
        self._weighted_by = weighted_by
        self.parameters = [name for name in start if name not in buffers]
        self._start = self._joined(start, {name: self._zeros(start) for name in strategy.collects})
        self._names = [name for name in self._start if name not in buffers]
        self._sum = Sum(self._names, self._start, device) if strategy.mean else None
        self._buffers = Sum([name for name in start if name in buffers], start, device)
        self._held: list[Arrays] = []
        self.metrics: list[RecordDict] = []

    def take(self, content: RecordDict) -> None:
        """Take what a site sent."""
        local = self._arrays(content)
        self.metrics.append(RecordDict(dict(content.metric_records)))
        weight = self._number(self._weighted_by, -1)
        self._buffers.add(local, weight)
        if self._sum is None or self._strategy.mean is None:
            self._held.append(local)
            return
        reported = {name: self._number(name, -1) for name in self._strategy.reports}
        self._sum.add(local, self._strategy.mean.coefficient(weight, reported))

    @property
    def suffices(self) -> bool:
        """Whether anything came."""
        return bool(self.metrics)

    def aggregate(self, state: State) -> tuple[dict[str, Tensor], State]:
        """Return the strategy's aggregate update of the parameters, and its next state."""
        weights = self._column(self._weighted_by)
        reported = {name: self._column(name) for name in self._strategy.reports}
        if self._sum is not None and self._strategy.mean is not None:
            divisor = self._strategy.mean.divisor(weights, reported)
            return self._strategy.from_mean(self._sum.mean(divisor), weights, state)
        updates = Stacked(self._names, self._start, self._held, self._device)
        if reported:
            return self._strategy.aggregate(updates, weights, state, reported)
        return self._strategy.aggregate(updates, weights, state)

    def mean_of_buffers(self) -> dict[str, Tensor]:
        """Return what to add to the buffers."""
        return self._buffers.mean(float(self._column(self._weighted_by).sum()))

    def _arrays(self, content: RecordDict) -> Arrays:
        """Return the arrays of a reply: the model, and beside it what the strategy collects.

        Raises:
            RunError: if something else came, or something is missing.
        """
        records = dict(content.array_records)
        beside = {name: records.pop(name) for name in self._strategy.collects if name in records}
        found = sorted(name for record in beside.values() for name in record)
        if len(records) != 1 or found != sorted(self.parameters * len(self._strategy.collects)):
            raise RunError(
                f"strategy {self._strategy.kind!r} takes a model and "
                f"{', '.join(self._strategy.collects) or 'nothing'} beside it, for every "
                f"parameter; a site sent the records {', '.join(content.array_records)}"
            )
        ((_, local),) = records.items()
        return self._joined(local, beside)

    def _zeros(self, start: Arrays) -> Arrays:
        """Return what the arrays beside a model are updates of."""
        return {name: Array(torch.zeros_like(to_tensor(start[name]))) for name in self.parameters}

    @staticmethod
    def _joined(model: Arrays, beside: Mapping[str, Arrays]) -> Arrays:
        """Return the arrays of a model, and those beside it under names such as `a/bias`."""
        named = {
            f"{of}/{name}": array for of, record in beside.items() for name, array in record.items()
        }
        return {**model, **named} if named else model

    def _column(self, name: str) -> Tensor:
        numbers = [self._number(name, reply) for reply in range(len(self.metrics))]
        return torch.tensor(numbers, dtype=torch.float64)

    def _number(self, name: str, reply: int) -> float:
        metrics = next(iter(self.metrics[reply].metric_records.values()))
        if name not in metrics:
            raise RunError(
                f"strategy {self._strategy.kind!r} needs {name!r} among the metrics of replies; "
                f"a site sent {', '.join(metrics)}"
            )
        value = metrics[name]
        return float(value) if isinstance(value, int | float) else float(value[0])
