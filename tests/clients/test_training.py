"""The training loop against loops and steps written out by hand."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clients.batch import UNKNOWN, Batch
from clients.objectives import Context, CrossEntropy, Margin, Objective
from clients.training import Plan, train

NUM_CLASSES = 3


def examples(num: int = 22) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(num, 1, 4, 4, generator=generator)
    images[:, 0, 0, 0] = torch.arange(num)  # its number, to tell it by
    labels = torch.randint(NUM_CLASSES, (num,), generator=generator)
    return Batch(images, labels)


def network() -> nn.Module:
    """Return a network with batch normalisation, always the same."""
    generator = torch.Generator().manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, NUM_CLASSES)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(plan: Plan, num: int = 22, seed: int = 0) -> list[list[int]]:
    """Return which examples each batch of the plan holds."""
    batches = plan.batches(examples(num), seeded(seed))
    return [[int(i) for i in batch.images[:, 0, 0, 0]] for batch in batches]


def assert_equal_bits(found: nn.Module, expected: nn.Module) -> None:
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


def differ(found: nn.Module, other: nn.Module) -> bool:
    pairs = zip(found.parameters(), other.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def run(model: nn.Module, plan: Plan, objective: Objective | None = None, seed: int = 0) -> float:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return train(
        model,
        examples(),
        plan,
        objective or CrossEntropy(),
        optimizer,
        context=Context(examples().class_counts(NUM_CLASSES)),
        generator=seeded(seed),
    )


@pytest.mark.parametrize("batch_size", [1, 5, 11, 22, 64])
def test_an_epoch_sees_every_example_once(batch_size: int) -> None:
    seen = list(chain(*numbers(Plan(batch_size, epochs=1))))
    assert sorted(seen) == list(range(22))
    assert seen != list(range(22))


def test_every_epoch_has_an_order_of_its_own() -> None:
    seen = list(chain(*numbers(Plan(5, epochs=3))))
    passes = [seen[start : start + 22] for start in (0, 22, 44)]
    assert len({tuple(order) for order in passes}) == 3
    assert all(sorted(order) == list(range(22)) for order in passes)


def test_drop_last_leaves_the_smaller_batch_out() -> None:
    kept = numbers(Plan(5, epochs=2, drop_last=True))
    assert [len(batch) for batch in kept] == [5] * 8
    everything = numbers(Plan(5, epochs=2))
    assert kept == [batch for batch in everything if len(batch) == 5]
    assert len(everything) == 10


def test_steps_are_the_first_batches_of_as_many_epochs_as_they_need() -> None:
    long = numbers(Plan(5, epochs=3))
    assert numbers(Plan(5, steps=2)) == long[:2]
    assert numbers(Plan(5, steps=12)) == long[:12]
    assert [len(batch) for batch in long[:12]] == [5, 5, 5, 5, 2] * 2 + [5, 5]


@pytest.mark.parametrize("plan", [Plan(23, steps=3, drop_last=True), Plan(23, 1, drop_last=True)])
def test_a_plan_without_a_batch_is_refused_rather_than_repeated_for_ever(plan: Plan) -> None:
    with pytest.raises(ValueError, match=r"22 examples give no batch of 23: .* drop_last=False"):
        plan.batches(examples(), seeded())
    assert len(next(plan.batches(examples(23), seeded()))) == 23
    with pytest.raises(ValueError, match="0 examples"):
        Plan(1, epochs=1).batches(examples()[:0], seeded())


def test_training_is_the_loop_that_one_would_write() -> None:
    trained, expected = network(), network()
    loss = run(trained, Plan(5, epochs=3))

    data, generator = examples(), seeded()
    optimizer = torch.optim.SGD(expected.parameters(), 0.1, momentum=0.9)
    expected.train()
    total, count = 0.0, 0
    for _ in range(3):
        order = torch.randperm(22, generator=generator)
        for start in range(0, 22, 5):
            chosen = order[start : start + 5]
            optimizer.zero_grad()
            step_loss = cross_entropy(expected(data.images[chosen]), data.labels[chosen])
            step_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(step_loss.detach()) * len(chosen)
            count += len(chosen)

    assert_equal_bits(trained, expected)
    assert loss == pytest.approx(total / count, rel=1e-12)
    assert differ(trained, network())


def test_a_full_batch_step_of_sgd_is_the_parameters_less_rate_times_gradient() -> None:
    data, model = examples(), network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    value = cross_entropy(model.train()(data.images), data.labels)
    gradients = torch.autograd.grad(value, list(model.parameters()))

    stepped = network()
    optimizer = torch.optim.SGD(stepped.parameters(), 0.25)
    loss = train(
        stepped,
        data,
        Plan(22, epochs=1),
        CrossEntropy(),
        optimizer,
        context=Context(data.class_counts(NUM_CLASSES)),
        generator=seeded(),
    )
    expected = [w - 0.25 * gradient for w, gradient in zip(before, gradients, strict=True)]
    found = [parameter.detach() for parameter in stepped.parameters()]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(float(value.detach()), rel=1e-6)
    assert (expected[0] - before[0]).abs().max() > 1e-3


class MeanNumber(Objective):
    """The mean number of the examples in the batch; pulls the model nowhere."""

    kind: str = "mean_number"

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the mean of the first pixels."""
        logits: Tensor = model(batch.images)
        return batch.images[:, 0, 0, 0].mean() + 0 * logits.sum()


def test_the_returned_loss_is_the_mean_over_examples() -> None:
    assert run(network(), Plan(5, epochs=1), MeanNumber()) == pytest.approx(10.5)
    batches = numbers(Plan(5, epochs=1))
    over_batches = sum(sum(batch) / len(batch) for batch in batches) / len(batches)
    assert over_batches != pytest.approx(10.5, abs=0.01)  # the last batch is smaller


def test_equal_generators_give_equal_bits() -> None:
    first, second, other = network(), network(), network()
    assert run(first, Plan(5, epochs=2)) == run(second, Plan(5, epochs=2))
    run(other, Plan(5, epochs=2), seed=1)
    assert_equal_bits(first, second)
    assert differ(first, other)


def test_global_randomness_is_not_touched() -> None:
    model, state = network(), torch.get_rng_state()
    run(model, Plan(5, epochs=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_another_objective_gives_another_model() -> None:
    plain, margin = network(), network()
    run(plain, Plan(5, epochs=1))
    run(margin, Plan(5, epochs=1), Margin(weight=1.0))
    assert differ(plain, margin)


def test_class_counts_are_of_the_site_and_cover_classes_it_does_not_hold() -> None:
    data = Batch(examples().images[:6], torch.tensor([0, 0, UNKNOWN, 0, 1, 1]))
    assert data.class_counts(4).tolist() == [3, 2, 0, 0]


def test_every_batch_is_augmented_and_the_examples_stay() -> None:
    data, model, seen = examples(), network(), []
    before = data.images.clone()

    def augment(batch: Batch) -> Batch:
        seen.append(len(batch))
        return Batch(batch.images + 1, batch.labels)

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = train(
        model,
        data,
        Plan(5, epochs=2),
        MeanNumber(),
        optimizer,
        context=Context(data.class_counts(NUM_CLASSES)),
        generator=seeded(),
        augment=augment,
    )
    assert seen == [5, 5, 5, 5, 2] * 2
    assert found == pytest.approx(11.5)
    assert torch.equal(data.images, before)


def test_the_model_trains_in_training_mode() -> None:
    model = network().eval()
    run(model, Plan(5, epochs=1))
    assert model.training
    assert int(model.get_buffer("1.num_batches_tracked")) == 5


def without_normalisation() -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, NUM_CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return model


@pytest.mark.parametrize("part_size", [1, 3, 4, 7])
@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(weight=0.3)], ids=lambda o: o.kind)
def test_gradients_of_parts_add_up_to_those_of_the_batch(
    part_size: int, objective: Objective
) -> None:
    whole, parts, wrong = (without_normalisation() for _ in range(3))
    before = run(whole, Plan(7, epochs=2), objective)
    after = run(parts, Plan(7, epochs=2, part_size=part_size), objective)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-5, atol=1e-6)
    assert after == pytest.approx(before, rel=1e-5)
    run(wrong, Plan(6, epochs=2), objective)
    assert differ(wrong, whole)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(wrong.state_dict(), whole.state_dict(), rtol=1e-5, atol=1e-6)


def test_an_objective_that_couples_a_batch_says_so_because_its_parts_do_not_add_up() -> None:
    coupled = Margin(weight=3.0, form="batch_probabilities")
    weighted = CrossEntropy(class_weights=(1.0, 5.0, 0.2))
    for objective in (coupled, weighted):
        assert objective.couples_examples
        whole, parts = without_normalisation(), without_normalisation()
        run(whole, Plan(7, epochs=1), objective)
        run(parts, Plan(7, epochs=1, part_size=2), objective)
        with pytest.raises(AssertionError):
            torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-3, atol=0)
    assert not CrossEntropy().couples_examples
    assert not Margin().couples_examples


def test_a_part_as_large_as_the_batch_is_the_batch() -> None:
    plain, parts = network(), network()
    assert run(plain, Plan(5, epochs=1)) == run(parts, Plan(5, epochs=1, part_size=5))
    assert_equal_bits(parts, plain)


def test_training_can_stop_early() -> None:
    stopped, short = network(), network()
    run(stopped, Plan(5, epochs=3, max_steps=4))
    run(short, Plan(5, steps=4))
    assert_equal_bits(stopped, short)
    assert Plan(5, epochs=3, max_steps=4).batch_sizes(22) == [5, 5, 5, 5]
    assert Plan(5, steps=2, max_steps=4).batch_sizes(22) == [5, 5]


def by_hand(model: nn.Module, dtype: torch.dtype, scaled: bool) -> None:
    """Train as PyTorch's manual on mixed precision does."""
    data, optimizer = examples(), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    order = torch.randperm(22, generator=seeded())
    for chosen in torch.split(order, 5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = cross_entropy(model(data.images[chosen]), data.labels[chosen])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_autocast(precision: Any) -> None:
    trained, expected, full = network(), network(), network()
    run(trained, Plan(5, epochs=1, precision=precision))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    by_hand(expected, dtype, scaled=precision == "fp16")
    assert_equal_bits(trained, expected)
    run(full, Plan(5, epochs=1))
    assert differ(trained, full)
    assert all(parameter.dtype == torch.float32 for parameter in trained.parameters())
