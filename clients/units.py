"""Units of privacy among the examples of a site, and Poisson samples of them.

A unit is what is hidden whole: an example, all examples of a patient, or a bag.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clients.batch import Batch


@dataclass(frozen=True)
class Part:
    """The examples of some units.

    Args:
        batch: all their examples.
        num_units: how many units.
        unit_of_example: by its place among those units, (example,), int64, ascending; None where
            every example is one.
    """

    batch: Batch
    num_units: int
    unit_of_example: Tensor | None = None


class Units:
    """The examples of a site by unit.

    Args:
        examples: of the site. Where they lie in bags, these are the units.
        of_example: the unit of every example, (example,), int64, from 0 without a gap; every
            example is one of its own if not given.

    Raises:
        ValueError: if a unit has no example, an example several units, or there is none at all.

    Attributes:
        sizes: examples of each unit.
    """

    def __init__(self, examples: Batch, of_example: Tensor | None = None) -> None:
        import torch

        if examples.redrawn:
            raise ValueError("bags that are drawn anew put an example into several units: keep one")
        if examples.bags is not None:
            if of_example is not None:
                raise ValueError("where examples lie in bags, these are the units: give no others")
            of_example = examples.bags.of_example
        self._examples = examples
        self._members: tuple[Tensor, ...] | None = None
        self.sizes = [1] * len(examples)
        if not self.sizes:
            raise ValueError("no example, so no unit to sample")
        if of_example is None:
            return
        if len(of_example) != len(examples):
            raise ValueError(f"{len(of_example)} examples have a unit, there are {len(examples)}")
        if of_example.min() < 0 or not (sizes := of_example.bincount()).all():
            raise ValueError("units are numbered from 0 without a gap, each with an example")
        alone = torch.arange(len(examples), device=of_example.device)
        if examples.bags is None and torch.equal(of_example, alone):
            return  # as if not given, to the same bits
        self.sizes = sizes.tolist()
        self._members = torch.split(of_example.argsort(stable=True), self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def parts(self, chosen: Tensor, max_size: int) -> Iterator[Part]:
        """Yield the examples of some units in parts of whole units.

        Args:
            chosen: numbers of the units, (n,), int64, on the CPU.
            max_size: examples in a part; more only where one unit alone has more.
        """
        import torch

        sizes = [self.sizes[unit] for unit in chosen.tolist()]
        for some in torch.split(chosen, _packed(sizes, max_size)):
            yield self._part(some)

    def _part(self, chosen: Tensor) -> Part:
        import torch

        device = self._examples.labels.device
        if self._members is None:
            return Part(self._examples.select(chosen.to(device)), len(chosen))
        if self._examples.bags is not None:
            batch = self._examples.select_bags(chosen.to(device))
            assert batch.bags is not None
            return Part(batch, len(chosen), batch.bags.of_example)
        members = [self._members[unit] for unit in chosen.tolist()]
        sizes = torch.tensor([len(positions) for positions in members], device=device)
        numbers = torch.arange(len(members), device=device).repeat_interleave(sizes)
        return Part(self._examples.select(torch.cat(members)), len(members), numbers)


def poisson_sample(num_units: int, sampling_rate: float, generator: torch.Generator) -> Tensor:
    """Return the numbers of units that are in a sample, each independently of all others.

    Args:
        num_units: to sample from.
        sampling_rate: q, the chance of each.
        generator: CPU generator; a double is drawn for each unit, so q holds to 2^-53.

    Returns:
        (n,), int64, ascending, on the CPU; it may be empty.
    """
    import torch

    draws = torch.rand(num_units, dtype=torch.float64, generator=generator)
    return (draws < sampling_rate).nonzero().squeeze(1)


def _packed(sizes: Sequence[int], most: int) -> list[int]:
    """Return how many neighbours go into each part so that it holds `most`, or one alone more.

    >>> _packed([2, 2, 1, 9, 1], most=4)
    [2, 1, 1, 1]
    """
    lengths: list[int] = []
    room = 0
    for size in sizes:
        if size > room:
            lengths.append(0)
            room = most
        lengths[-1] += 1
        room -= size
    return lengths
