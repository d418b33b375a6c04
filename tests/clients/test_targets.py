"""Targets: what is learned of the truth, how outputs are read, and the loss, in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clients.batch import Batch
from clients.objectives import Context, SquaredError
from clients.targets import CLASSES, Quantity

NUMBERS = np.array([-3.0, 0.0, 7.25, 20.0], np.float32)


def test_a_quantity_is_learned_between_its_constants() -> None:
    learned = Quantity(low=-5, high=15).learned(NUMBERS)
    assert learned.dtype == np.float32
    np.testing.assert_allclose(learned, [0.1, 0.25, 0.6125, 1.25], rtol=1e-6)


def test_a_quantity_without_constants_is_learned_bit_for_bit() -> None:
    assert Quantity().learned(NUMBERS).tobytes() == NUMBERS.tobytes()
    outputs = torch.from_numpy(NUMBERS)[:, None]
    assert torch.equal(Quantity().scores(outputs), outputs)


def test_scores_of_a_quantity_are_in_its_own_unit() -> None:
    quantity = Quantity(low=-5, high=15)
    outputs = torch.from_numpy(quantity.learned(NUMBERS))[:, None]
    scores = quantity.scores(outputs)
    assert scores.shape == (4, 1)
    np.testing.assert_allclose(scores[:, 0], NUMBERS, atol=1e-5)


@pytest.mark.parametrize("quantity", [Quantity(), Quantity(-5, 15)])
def test_the_loss_of_a_quantity_is_the_objective_that_is_learned(quantity: Quantity) -> None:
    outputs = torch.tensor([[0.5], [0.0], [-1.0], [2.0]], dtype=torch.float64)
    learned = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    batch = Batch(torch.zeros(4, 1, 2, 2), learned)
    minimised = SquaredError().loss(lambda _: outputs, batch, Context(torch.zeros(2)))  # type: ignore[arg-type]
    measured = quantity.loss(quantity.scores(outputs), learned)
    assert minimised.item() == pytest.approx((0.25 + 0 + 4 + 1) / 4, abs=1e-15)
    assert measured.item() == pytest.approx((0.25 + 0 + 4 + 1) / 4, abs=1e-12)


def test_classes_are_read_as_log_probabilities_and_judged_by_cross_entropy() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([1, 2])
    assert CLASSES.learned(labels) is labels
    scores = CLASSES.scores(logits)
    torch.testing.assert_close(scores, logits - logits.exp().sum(1, keepdim=True).log())
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(CLASSES.loss(scores, labels), expected)


def test_batches_of_numbers_have_no_classes() -> None:
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.tensor([0.5, -1.0, 2.0]))
    assert batch.class_counts(2).tolist() == [0, 0]
    assert batch.class_counts(2).dtype == torch.int64
    assert batch.select(torch.tensor([2, 0])).labels.tolist() == [2.0, 0.5]
