"""Batches of an epoch: each example once, in an order that the generator draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clients.batch import UNKNOWN, Bags, Batch, shuffled
from clients.training import Plan


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


def in_bags() -> Batch:
    """Seven examples in three bags of sizes 2, 3 and 2; each image is its example's number."""
    images = torch.arange(7.0).view(7, 1, 1, 1)
    bags = Bags(torch.tensor([0, 1, 2, 1, 0, 1, 2]), torch.tensor([[0.5], [1.0], [0.0]]))
    return Batch(images, torch.full((7,), UNKNOWN), bags)


def test_bags_stay_whole_in_batches() -> None:
    batches = list(shuffled(in_bags(), 5, drop_last=False, generator=torch.Generator()))
    assert sorted(len(batch) for batch in batches) in ([2, 5], [3, 4])
    members = {0: {0, 4}, 1: {1, 3, 5}, 2: {2, 6}}
    responses = {0.5: 0, 1.0: 1, 0.0: 2}
    seen = []
    for batch in batches:
        assert batch.bags is not None
        for number, response in enumerate(batch.bags.responses[:, 0].tolist()):
            inside = batch.images[batch.bags.of_example == number].flatten().int().tolist()
            assert set(inside) == members[responses[response]]
            seen += inside
    assert sorted(seen) == list(range(7))


def test_a_batch_smaller_than_a_bag_is_one_bag() -> None:
    plan = Plan(1, epochs=1)
    assert len(list(plan.batches(in_bags(), torch.Generator()))) == plan.num_steps(7, 3) == 3
    assert plan.batch_sizes(7, 3) == [2, 2, 2]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 99])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_steps_of_a_round_over_bags_are_known_before(batch_size: int, drop_last: bool) -> None:
    plan = Plan(batch_size, epochs=2, drop_last=drop_last)
    if drop_last and batch_size > 7:
        with pytest.raises(ValueError, match="give no batch"):
            plan.batches(in_bags(), torch.Generator())
    else:
        found = list(plan.batches(in_bags(), torch.Generator()))
        assert len(found) == plan.num_steps(7, num_bags=3)


def test_bags_are_not_divided() -> None:
    with pytest.raises(ValueError, match="bags are not divided"):
        in_bags()[:3]


def test_means_are_of_bags() -> None:
    bags = in_bags().bags
    assert bags is not None
    assert bags.means(torch.arange(7.0)).tolist() == [2.0, 3.0, 4.0]
    assert bags.means(torch.ones(7, 2)).tolist() == [[1.0, 1.0]] * 3


def test_bags_count_classes_as_their_responses_say() -> None:
    assert in_bags().class_counts(1).tolist() == [0.5 * 2 + 1.0 * 3]


def test_redrawn_bags_take_turns() -> None:
    other = Bags(torch.tensor([0, 0, 1, 1, 1, 2, 2]), torch.tensor([[7.0], [8.0], [9.0]]))
    examples, generator = replace(in_bags(), redrawn=(other,)), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(12):
        (batch,) = shuffled(examples, 7, drop_last=False, generator=generator)
        assert batch.bags is not None
        assert not batch.redrawn
        seen.add(tuple(sorted(batch.bags.responses[:, 0].tolist())))
    assert seen == {(0.0, 0.5, 1.0), (7.0, 8.0, 9.0)}
