"""The parts against truths that are not their own code."""

import numpy as np
import torch
from my_parts.clipped_mean import ClippedMean
from my_parts.focal import Focal
from my_parts.phantoms import Phantoms

from clients.batch import Batch
from clients.objectives import Context
from fedsim.seeds import Streams


def test_a_long_update_is_cut_to_its_bound_and_a_short_one_is_not() -> None:
    updates = {"w": torch.tensor([[0.6], [30.0]]), "b": torch.tensor([[0.0], [40.0]])}
    mean, state = ClippedMean(max_norm=5.0).aggregate(updates, torch.tensor([1.0, 3.0]), {})
    torch.testing.assert_close(mean["w"], torch.tensor([(0.6 + 3 * 3.0) / 4]))
    torch.testing.assert_close(mean["b"], torch.tensor([3 * 4.0 / 4]))
    assert state == {}


def test_updates_of_nothing_stay_nothing() -> None:
    mean, _ = ClippedMean().aggregate({"w": torch.zeros(2, 3)}, torch.ones(2), {})
    assert mean["w"].tolist() == [0.0, 0.0, 0.0]


def test_an_example_of_probability_one_half_counts_a_quarter() -> None:
    batch = Batch(images=torch.zeros(4, 2), labels=torch.zeros(4, dtype=torch.int64))
    context = Context(class_counts=torch.tensor([4, 0]))
    loss = Focal(gamma=2.0).loss(torch.nn.Identity(), batch, context)
    assert abs(float(loss) - 0.25 * np.log(2)) < 1e-6


def test_an_image_is_the_same_alone_and_among_others() -> None:
    dataset = Phantoms().open(Streams(3))
    together = dataset.images("all", np.arange(10))
    assert together.shape == (10, 1, 16, 16)
    assert np.array_equal(dataset.images("all", np.array([7]))[0], together[7])


def test_discs_are_brighter() -> None:
    dataset = Phantoms().open(Streams(3))
    means = dataset.images("all", np.arange(200)).mean(axis=(1, 2, 3))
    labels = dataset.labels["all"]
    assert means[labels == 1].mean() > means[labels == 0].mean() + 3
