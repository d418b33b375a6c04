"""Batches of an epoch: each example once, in an order that the generator draws."""

from __future__ import annotations

import pytest
import torch

from clients.batch import Batch, shuffled


def numbered(num: int) -> Batch:
    """Return examples whose label and whose pixels are their number."""
    labels = torch.arange(num)
    return Batch(labels[:, None, None, None] * torch.ones(1, 2, 3, 3), labels)


def epoch(num: int, batch_size: int, *, drop_last: bool = False, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return list(shuffled(numbered(num), batch_size, drop_last=drop_last, generator=generator))


def order(batches: list[Batch]) -> list[int]:
    return [int(label) for batch in batches for label in batch.labels]


def test_an_index_picks_images_together_with_their_labels() -> None:
    picked = numbered(5).select(torch.tensor([3, 1]))
    assert len(picked) == 2
    assert picked.labels.tolist() == picked.images[:, 0, 0, 0].tolist() == [3, 1]
    assert numbered(5)[1:4].labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [
        (4, False, [4, 4, 2]),
        (4, True, [4, 4]),
        (5, True, [5, 5]),
        (10, True, [10]),
        (16, False, [10]),
        (16, True, []),
        (1, False, [1] * 10),
    ],
)
def test_batches_have_the_size_asked(batch_size: int, drop_last: bool, sizes: list[int]) -> None:
    batches = epoch(10, batch_size, drop_last=drop_last)
    assert [len(batch) for batch in batches] == sizes
    seen = order(batches)
    assert len(set(seen)) == len(seen) == sum(sizes)
    assert all((batch.images[:, 0, 0, 0] == batch.labels).all() for batch in batches)


def test_the_order_is_the_generators() -> None:
    assert order(epoch(30, 7, seed=1)) == order(epoch(30, 7, seed=1))
    assert order(epoch(30, 7, seed=1)) == order(epoch(30, 10, seed=1))
    assert order(epoch(30, 7, seed=1)) != order(epoch(30, 7, seed=2))


def test_every_place_in_the_order_is_equally_likely() -> None:
    generator = torch.Generator().manual_seed(0)
    examples, num_epochs = numbered(4), 2000
    counts = torch.zeros(4, 4)
    for _ in range(num_epochs):
        (batch,) = shuffled(examples, 4, drop_last=False, generator=generator)
        counts[batch.labels, torch.arange(4)] += 1
    expected = num_epochs / 4
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 27.9  # 9 degrees of freedom, one in a thousand


def test_the_examples_themselves_stay_as_they_were() -> None:
    examples = numbered(6)
    generator = torch.Generator().manual_seed(0)
    for batch in shuffled(examples, 2, drop_last=False, generator=generator):
        batch.images.zero_()
    assert torch.equal(examples.images, numbered(6).images)
    assert torch.equal(examples.labels, numbered(6).labels)
