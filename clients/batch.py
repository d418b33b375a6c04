"""The examples a client works on, and the order in which it sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNKNOWN = -1
"""Label of an example whose class its site does not know."""


@dataclass(frozen=True)
class Bags:
    """What is known of the labels of examples that lie in bags, each example in one of them.

    Args:
        of_example: the bag that each example lies in, (example,), int64, from 0.
        responses: mean label of every bag, (bag, class), float32: of classes, their proportions; of
            real numbers, (bag, 1), their mean. Where noise protects them they may lie outside what
            labels can give.
    """

    of_example: Tensor
    responses: Tensor

    def __len__(self) -> int:
        return len(self.responses)

    @cached_property
    def sizes(self) -> Tensor:
        """Examples in every bag, (bag,), int64."""
        return self.of_example.bincount(minlength=len(self))

    @cached_property
    def _by_bag(self) -> tuple[Tensor, ...]:
        """The positions of every bag's examples, ascending."""
        import torch

        order = self.of_example.argsort(stable=True)
        return torch.split(order, self.sizes.tolist())

    def select(self, chosen: Tensor) -> tuple[Tensor, Bags]:
        """Return the positions of the examples in some bags, and what is known of those.

        Args:
            chosen: numbers of the bags, (n,), int64.
        """
        import torch

        index = torch.cat([self._by_bag[bag] for bag in chosen.tolist()])
        numbers = torch.arange(len(chosen), device=chosen.device)
        of_example = numbers.repeat_interleave(self.sizes.index_select(0, chosen))
        return index, Bags(of_example, self.responses.index_select(0, chosen))

    def means(self, values: Tensor) -> Tensor:
        """Return the mean over every bag, (bag, ...), of values (example, ...).

        Summed so that it repeats to the bit on GPUs too, unlike `index_add` there.
        """
        sums = values.new_zeros(len(self), *values.shape[1:])
        sums = sums.index_put((self.of_example,), values, accumulate=True)
        return sums / self.sizes.to(values).view(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True)
class Batch:
    """Some images and what is known of their labels.

    Args:
        images: (example, channel, height, width), float32, normalised.
        labels: (example,), int64 class indices, `UNKNOWN` where only bags are known, or nothing;
            float32 where the target is a real number, nan where it is not known.
        bags: what is known of the labels in their stead; None where every label stands for itself.
        redrawn: the same examples, divided into other bags.
        confusion: P(label that is shown | label), (class, class), float32, where labels were made
            wrong by a known chance.
    """

    images: Tensor
    labels: Tensor
    bags: Bags | None = None
    redrawn: tuple[Bags, ...] = ()
    confusion: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Batch:
        """Return a part of a batch of single examples.

        Raises:
            ValueError: if they lie in bags, which are not divided.
        """
        if self.bags is not None:
            raise ValueError("bags are not divided: choose whole ones")
        return Batch(self.images[part], self.labels[part])

    @property
    def num_bags(self) -> int | None:
        """How many bags there are, None where every label stands for itself."""
        return None if self.bags is None else len(self.bags)

    def class_counts(self, num_classes: int) -> Tensor:
        """Return examples per class as far as they are known, (class,).

        Of labels, int64, all 0 if they are real numbers; of bags, float32: the sum of size times
        response.
        """
        if self.labels.is_floating_point():
            return self.labels.new_zeros(num_classes).long()
        if self.bags is not None:
            return self.bags.sizes.to(self.bags.responses) @ self.bags.responses
        return self.labels[self.labels != UNKNOWN].bincount(minlength=num_classes)

    def select(self, index: Tensor) -> Batch:
        """Return single examples at these positions, (n,), int64; cheaper than `images[index]`."""
        return Batch(self.images.index_select(0, index), self.labels.index_select(0, index))

    def select_bags(self, chosen: Tensor) -> Batch:
        """Return the examples of these bags, (n,), int64, bag by bag."""
        assert self.bags is not None
        index, bags = self.bags.select(chosen)
        return replace(self.select(index), bags=bags)


def joined(parts: Sequence[Batch], num_classes: int) -> Batch:
    """Return the examples of several sites as those of one.

    Where some lie in bags, an example with a label of its own becomes a bag of one.

    Raises:
        ValueError: if the labels of some were randomised and those of others not, or otherwise.
    """
    import torch

    images = torch.cat([part.images for part in parts])
    labels = torch.cat([part.labels for part in parts])
    if all(part.bags is None for part in parts):
        return Batch(images, labels, confusion=_shared_confusion(parts))
    bags = [part.bags or singles(part.labels, num_classes) for part in parts]
    starts = accumulate((len(part) for part in bags), initial=0)
    numbers = [part.of_example + start for part, start in zip(bags, starts, strict=False)]
    return Batch(
        images, labels, Bags(torch.cat(numbers), torch.cat([part.responses for part in bags]))
    )


def _shared_confusion(parts: Sequence[Batch]) -> Tensor | None:
    known = [part.confusion for part in parts if part.confusion is not None]
    if not known:
        return None
    if len(known) < len(parts) or any(not known[0].equal(other) for other in known[1:]):
        raise ValueError("the labels of these sites were not randomised alike")
    return known[0]


def singles(labels: Tensor, num_classes: int) -> Bags:
    """Return labels, (example,), as bags of one."""
    import torch
    from torch.nn.functional import one_hot

    numbers = torch.arange(len(labels), device=labels.device)
    if labels.is_floating_point():
        return Bags(numbers, labels[:, None])
    return Bags(numbers, one_hot(labels, num_classes).float())


def shuffled(
    examples: Batch, batch_size: int, *, drop_last: bool, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield one epoch of batches without replacement, in an order drawn from `generator`.

    Where examples lie in bags, a batch is made of whole ones: as many as make `batch_size` examples
    where all are of mean size, and at least one.
    """
    import torch

    whole = _some_division(examples, generator)
    num, size = len(whole), batch_size
    if whole.bags is not None:
        num, size = len(whole.bags), bags_at_once(batch_size, len(whole), len(whole.bags))
    order = torch.randperm(num, generator=generator).to(examples.labels.device)
    for index in torch.split(order, size):
        if drop_last and len(index) < size:
            return
        yield whole.select(index) if whole.bags is None else whole.select_bags(index)


def bags_at_once(batch_size: int, num_examples: int, num_bags: int) -> int:
    """Return how many bags a batch is made of.

    >>> bags_at_once(32, num_examples=100, num_bags=12)  # of 8 or 9 examples
    3
    """
    return max(1, batch_size * num_bags // num_examples)


def _some_division(examples: Batch, generator: torch.Generator) -> Batch:
    """Return the examples in one of the ways in which they are divided into bags."""
    import torch

    if not examples.redrawn:
        return examples
    number = int(torch.randint(1 + len(examples.redrawn), (), generator=generator))
    return replace(examples, bags=(examples.bags, *examples.redrawn)[number], redrawn=())
