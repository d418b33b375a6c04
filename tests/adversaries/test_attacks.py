"""Each attack against its formula, with numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsim.adversaries import (
    Gaussian,
    InnerProduct,
    LabelFlip,
    LittleIsEnough,
    ScaledUpdate,
    SignFlip,
)

RNG = np.random.default_rng(0)
UPDATE = {"weight": torch.tensor(RNG.normal(size=(3, 4))), "bias": torch.tensor(RNG.normal(size=4))}
HONEST = {name: torch.tensor(RNG.normal(size=(5, *u.shape))) for name, u in UPDATE.items()}


def forged(attack: Any, update: dict[str, Tensor] = UPDATE, seed: int = 1) -> dict[str, Any]:
    before = {name: tensor.clone() for name, tensor in update.items()}
    found = attack.forge(update, np.random.default_rng(seed))
    assert all(torch.equal(update[name], before[name]) for name in update)
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
        name: (t.shape, t.dtype) for name, t in update.items()
    }
    return {name: tensor.numpy() for name, tensor in found.items()}


@pytest.mark.parametrize(
    ("attack", "factor"),
    [
        (SignFlip(share=0.1), -1.0),
        (SignFlip(share=0.1, scale=3), -3.0),
        (ScaledUpdate(share=0.1, factor=10), 10.0),
    ],
    ids=str,
)
def test_multiples_of_the_update(attack: Any, factor: float) -> None:
    for name, values in forged(attack).items():
        np.testing.assert_array_equal(values, factor * UPDATE[name].numpy())


def test_noise_has_the_stated_standard_deviation_and_forgets_the_update() -> None:
    large = {"weight": torch.full((200, 500), 7.0, dtype=torch.float64)}
    (values,) = forged(Gaussian(share=0.1, std=0.2), large).values()
    assert values.std() == pytest.approx(0.2, rel=0.01)
    assert abs(values.mean()) < 5 * 0.2 / np.sqrt(values.size)
    expected = 0.2 * np.random.default_rng(1).standard_normal((200, 500))
    np.testing.assert_array_equal(values, expected)
    (other,) = forged(Gaussian(share=0.1, std=0.2), large, seed=2).values()
    assert not np.array_equal(values, other)


def test_noise_may_be_as_long_as_the_update() -> None:
    lengths = []
    for seed in range(400):
        found = forged(Gaussian(share=0.1, norm_ratio=3), seed=seed)
        lengths.append(sum((values**2).sum() for values in found.values()))
    own = sum(float((u**2).sum()) for u in UPDATE.values())
    assert np.sqrt(np.mean(lengths) / own) == pytest.approx(3, rel=0.05)
    assert not any(v.any() for v in forged(Gaussian(share=0.1, norm_ratio=3), zeros()).values())


def zeros() -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in UPDATE.items()}


def moved(z: float) -> Callable[[Any], Any]:
    """Return the formula of Baruch et al., with the variance as a mean of squares."""

    def formula(stack: Any) -> Any:
        mean = stack.sum(0) / len(stack)
        return mean - z * np.sqrt((stack**2).sum(0) / len(stack) - mean**2)

    return formula


@pytest.mark.parametrize(
    ("attack", "formula"),
    [
        (InnerProduct(share=0.1, epsilon=0.5), lambda stack: -0.5 * stack.sum(0) / len(stack)),
        (LittleIsEnough(share=0.1, z=1.5), moved(1.5)),
    ],
    ids=["inner_product", "little_is_enough"],
)
def test_what_those_send_who_know_the_others(attack: Any, formula: Callable[[Any], Any]) -> None:
    found = attack.forge(HONEST)
    assert set(found) == set(HONEST)
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.numpy(), formula(HONEST[name].numpy()), atol=1e-12)


def test_labels_are_turned_around_or_mapped() -> None:
    labels = torch.tensor([0, 1, 2, 3, 3])
    assert LabelFlip(share=0.1).flip(labels, 4).tolist() == [3, 2, 1, 0, 0]
    assert LabelFlip(share=0.1, mapping={3: 0, 0: 1}).flip(labels, 4).tolist() == [1, 1, 2, 0, 0]
    assert labels.tolist() == [0, 1, 2, 3, 3]
