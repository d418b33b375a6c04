"""Log-probabilities: what the model says in evaluation mode, and nothing else happens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clients import evaluation
from clients.batch import Batch
from clients.evaluation import predict
from clients.targets import CLASSES, Quantity

NUM = 600
"""More than two forward passes."""


def examples(num: int = NUM) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num, 1, 4, 4, generator=generator)
    return Batch(images, torch.zeros(num, dtype=torch.int64))


def network() -> nn.Module:
    """Return a network that behaves otherwise in training mode, always the same."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.get_buffer("1.running_mean").fill_(0.3)
    return model


def test_they_are_the_log_softmax_of_the_model_in_evaluation_mode() -> None:
    found = predict(network().train(), examples(), CLASSES)
    with torch.no_grad():
        expected = network().eval()(examples().images).log_softmax(dim=1)
        training = network().train()(examples().images).log_softmax(dim=1)
    assert found.shape == (NUM, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, training, atol=0.1)


def test_they_are_normalised_and_finite_however_large_the_logits() -> None:
    class Huge(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 1e4 * images.flatten(1)[:, :3]

    found = predict(Huge(), examples(), CLASSES)
    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(NUM))
    assert found.min() < -1e4


@pytest.mark.parametrize("batch_size", [1, 7, NUM, 10_000])
def test_the_size_of_a_forward_pass_does_not_matter(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = predict(network(), examples(), CLASSES)
    monkeypatch.setattr(evaluation, "BATCH_SIZE", batch_size)
    found = predict(network(), examples(), CLASSES)
    torch.testing.assert_close(found, usual, rtol=1e-5, atol=1e-5)


def test_a_forward_pass_sees_at_most_the_stated_number() -> None:
    seen: list[int] = []
    model = network()
    model.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    predict(model, examples(), CLASSES)
    assert seen == [256, 256, 88]


def test_no_gradient_is_kept() -> None:
    model = network()
    found = predict(model, examples(), CLASSES)
    assert not found.requires_grad
    assert found.grad_fn is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_neither_parameters_nor_statistics_nor_images_change() -> None:
    model, given = network().train(), examples()
    predict(model, given, CLASSES)
    torch.testing.assert_close(model.state_dict(), network().state_dict(), rtol=0, atol=0)
    assert torch.equal(given.images, examples().images)
    with torch.no_grad():
        model.train()(given.images)
    assert not torch.equal(
        model.get_buffer("1.running_mean"), network().get_buffer("1.running_mean")
    )


def test_the_model_is_left_in_evaluation_mode_and_can_be_trained_on() -> None:
    model = network().train()
    predict(model, examples(), CLASSES)
    assert not any(module.training for module in model.modules())
    model.train()(examples().images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_equal_bits_twice_and_global_randomness_untouched() -> None:
    model = network()
    state = torch.get_rng_state()
    first, second = (predict(model, examples(), CLASSES) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_examples_have_no_predictions() -> None:
    assert predict(network(), examples(0), CLASSES).shape == (0, 3)


def test_numbers_are_the_outputs_in_their_unit() -> None:
    def model() -> nn.Module:
        return nn.Sequential(network(), nn.Linear(3, 1)).requires_grad_(False)

    torch.manual_seed(0)
    one = model()
    found = predict(one, examples(), Quantity(low=2, high=6))
    assert found.shape == (NUM, 1)
    torch.testing.assert_close(found, 2 + 4 * one.eval()(examples().images), rtol=1e-5, atol=1e-5)
