"""Objectives against formulas, gradients in closed form and reference values; what all keep."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from clients.batch import Batch
from clients.objectives import (
    BUILTIN,
    Context,
    CrossEntropy,
    LlpVat,
    Margin,
    Objective,
    SigmaDamp,
    SpectralDecoupling,
)

NUM_CLASSES = 4
Form = Literal["logits", "batch_probabilities"]
FORMS: tuple[Form, ...] = ("logits", "batch_probabilities")
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)


class Given(nn.Module):
    """A model whose logits are its only parameter, whatever the images."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.logits


def draw(seed: int, num: int = 9, num_classes: int = NUM_CLASSES) -> tuple[Tensor, Tensor]:
    """Return logits, float64, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(num_classes, (num,), generator=generator)


def context(labels: Tensor, num_classes: int = NUM_CLASSES) -> Context:
    return Context(Batch(torch.empty(0), labels).class_counts(num_classes))


def value_and_gradient(
    objective: Objective, logits: Tensor, labels: Tensor, known: Context | None = None
) -> tuple[Tensor, Tensor]:
    """Return the objective and its gradient with respect to the logits."""
    model = Given(logits)
    batch = Batch(torch.zeros(len(labels), 1, 1, 1), labels)
    loss = objective.loss(model, batch, known or context(labels, logits.shape[1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert model.logits.grad is not None
    return loss.detach(), model.logits.grad


def numpy_cross_entropy(logits: Tensor, labels: Tensor, weights: NDArray[np.float64]) -> float:
    z, y = logits.numpy(), labels.numpy()
    log_likelihood = z[np.arange(len(y)), y] - np.log(np.exp(z).sum(axis=1))
    return float(-(weights[y] * log_likelihood).sum() / weights[y].sum())


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_is_the_mean_negative_log_likelihood(seed: int) -> None:
    logits, labels = draw(seed)
    loss, gradient = value_and_gradient(CrossEntropy(), logits, labels)
    assert float(loss) == pytest.approx(numpy_cross_entropy(logits, labels, np.ones(4)))
    one_hot = nn.functional.one_hot(labels, NUM_CLASSES)
    close(gradient, (logits.softmax(dim=1) - one_hot) / len(labels))


def test_class_weights_weigh_the_mean() -> None:
    logits, labels = draw(3)
    weights = (0.5, 1.0, 2.0, 4.0)
    loss, _ = value_and_gradient(CrossEntropy(class_weights=weights), logits, labels)
    assert float(loss) == pytest.approx(numpy_cross_entropy(logits, labels, np.array(weights)))
    assert float(loss) != pytest.approx(numpy_cross_entropy(logits, labels, np.ones(4)), rel=1e-3)


def test_only_the_ratio_of_class_weights_matters() -> None:
    logits, labels = draw(4)
    plain, doubled, halved = (
        value_and_gradient(CrossEntropy(class_weights=weights), logits, labels)[0]
        for weights in (None, (2.0,) * 4, (0.5,) * 4)
    )
    close(doubled, plain)
    close(halved, plain)


def test_balanced_weights_come_from_the_site_not_from_the_batch() -> None:
    logits, labels = draw(5)
    counts = np.array([1, 20, 5, 74])
    known = Context(torch.from_numpy(counts))
    balanced = CrossEntropy(class_weights="balanced")
    loss, _ = value_and_gradient(balanced, logits, labels, known)
    expected = numpy_cross_entropy(logits, labels, 100 / (4 * counts))
    assert float(loss) == pytest.approx(expected)
    from_batch, _ = value_and_gradient(balanced, logits, labels)
    assert float(from_batch) != pytest.approx(expected, rel=1e-3)


def test_balanced_over_a_whole_site_gives_every_class_the_same_say() -> None:
    logits, _ = draw(6, num=10)
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    loss, _ = value_and_gradient(
        CrossEntropy(class_weights="balanced"), logits, labels, context(labels)
    )
    per_class = [
        numpy_cross_entropy(logits[labels == c], labels[labels == c], np.ones(4)) for c in range(3)
    ]
    assert float(loss) == pytest.approx(np.mean(per_class))


def test_a_class_that_the_site_does_not_hold_breaks_nothing() -> None:
    logits, _ = draw(7, num=6)
    labels = torch.tensor([0, 0, 0, 1, 1, 3])
    loss, gradient = value_and_gradient(
        CrossEntropy(class_weights="balanced"), logits, labels, Context(torch.tensor([3, 2, 0, 1]))
    )
    expected = numpy_cross_entropy(logits, labels, np.array([6 / 12, 6 / 8, 0, 6 / 4]))
    assert float(loss) == pytest.approx(expected)
    assert gradient.isfinite().all()
    assert (gradient[:, 2] > 0).all()  # its logit is still pushed down
    foreign = torch.tensor([0, 0, 0, 1, 1, 2])
    known = Context(torch.tensor([3, 2, 0, 1]))
    balanced = CrossEntropy(class_weights="balanced")
    with_it, _ = value_and_gradient(balanced, logits, foreign, known)
    without, _ = value_and_gradient(balanced, logits[:5], foreign[:5], known)
    close(with_it, without)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_class_weight_is_positive_and_finite(weight: float) -> None:
    with pytest.raises(ValidationError):
        CrossEntropy(class_weights=(1.0, weight))


@pytest.mark.parametrize("form", FORMS)
def test_margin_weight_0_is_cross_entropy(form: Form) -> None:
    logits, labels = draw(8)
    plain = value_and_gradient(CrossEntropy(), logits, labels)
    margin = value_and_gradient(Margin(weight=0, form=form), logits, labels)
    torch.testing.assert_close(margin, plain, rtol=0, atol=0)
    tiny = value_and_gradient(Margin(weight=1e-6, form=form), logits, labels)
    assert not torch.equal(tiny[0], plain[0])


def closed_form(logits: Tensor, labels: Tensor, weight: float, form: Form) -> tuple[float, Any]:
    """Return value and gradient of the objective, written out in numpy.

    d/dZ_i mean_i log(1 + |Z_i|^2) = 2 Z_i / (n (1 + |Z_i|^2));
    d/dZ_i log(1 + |P|^2) = 2 P_i * (P_i - |P_i|^2) / (1 + |P|^2), P_i = softmax(Z_i).
    """
    z, num = logits.numpy(), len(labels)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if form == "logits":
        squares = 1 + (z**2).sum(axis=1, keepdims=True)
        penalty, slope = np.log(squares).mean(), 2 * z / (num * squares)
    else:
        total = 1 + (p**2).sum()
        penalty = np.log(total)
        slope = 2 * p * (p - (p**2).sum(axis=1, keepdims=True)) / total
    loss = numpy_cross_entropy(logits, labels, np.ones(z.shape[1])) + weight * penalty
    return loss, (p - np.eye(z.shape[1])[labels.numpy()]) / num + weight * slope


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num", [1, 2, 50])
@pytest.mark.parametrize("weight", [0.03, 1.0])
def test_margin_has_its_closed_form_gradient(form: Form, num: int, weight: float) -> None:
    logits, labels = draw(num, num)
    loss, gradient = value_and_gradient(Margin(weight=weight, form=form), logits, labels)
    expected, slope = closed_form(logits, labels, weight, form)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    close(gradient, torch.from_numpy(slope))
    other = closed_form(logits, labels, weight, FORMS[1 - FORMS.index(form)])
    assert float(loss) != pytest.approx(other[0], rel=1e-4)


def test_only_the_released_margin_couples_the_examples_of_a_batch() -> None:
    logits, _ = draw(9, num=8)
    halves = logits[:4], logits[4:]
    paper, released = (Margin(form=form) for form in FORMS)
    close(paper.penalty(logits), (paper.penalty(halves[0]) + paper.penalty(halves[1])) / 2)
    mean = (released.penalty(halves[0]) + released.penalty(halves[1])) / 2
    assert float(released.penalty(logits)) > float(mean) + 0.1


def test_the_margin_pulls_large_logits_back() -> None:
    sure = torch.tensor([[30.0, -30.0]], dtype=torch.float64)
    label = torch.tensor([0])
    _, plain = value_and_gradient(CrossEntropy(), sure, label)
    _, paper = value_and_gradient(Margin(weight=0.1), sure, label)
    assert plain.abs().max() < 1e-20
    assert paper[0, 0] > 1e-3
    assert paper[0, 1] < -1e-3


@pytest.fixture(scope="module")
def reference(oracles: Path) -> Mapping[str, NDArray[Any]]:
    """Reference values of the margin loss, where they are at hand."""
    with np.load(oracles / "fedld" / "marginal_log_loss.npz") as file:
        return dict(file)


@pytest.mark.parametrize("form", FORMS)
def test_margin_agrees_with_reference_values(
    reference: Mapping[str, NDArray[Any]], form: Form
) -> None:
    prefix = "paper_" if form == "logits" else ""
    assert int(reference["n_cases"]) > 0
    for case in range(int(reference["n_cases"])):
        found = {key: reference[f"case{case}__{key}"] for key in ("logits", "targets", "lambda")}
        loss, gradient = value_and_gradient(
            Margin(weight=float(found["lambda"]), form=form),
            torch.from_numpy(found["logits"]),
            torch.from_numpy(found["targets"]),
        )
        expected = float(reference[f"case{case}__{prefix}loss"])
        assert float(loss) == pytest.approx(expected, rel=1e-12)
        close(gradient, torch.from_numpy(reference[f"case{case}__{prefix}grad"]))


@pytest.mark.parametrize("weight", [0.0, 0.02, 3.0])
def test_spectral_decoupling_has_its_closed_form(weight: float) -> None:
    logits, labels = draw(4)
    loss, gradient = value_and_gradient(SpectralDecoupling(weight=weight), logits, labels)
    plain, slope = value_and_gradient(CrossEntropy(), logits, labels)
    close(loss, plain + weight / 2 * (logits**2).sum() / len(labels))
    close(gradient, slope + weight * logits / len(labels))


def test_spectral_decoupling_of_opposite_logits_is_the_published_loss() -> None:
    f = 4 * torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(20) % 2
    loss, _ = value_and_gradient(
        SpectralDecoupling(weight=0.3), torch.stack([-f / 2, f / 2], 1), labels
    )
    y = 2 * labels - 1
    published = (torch.log1p(torch.exp(-y * f)) + 0.15 / 2 * f**2).mean()
    close(loss, published)


def logits_of(margins: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits that leave the true class ahead by the margins, and labels of both classes."""
    labels = torch.arange(len(margins)) % 2
    own = nn.functional.one_hot(labels, 2).double()
    return 7 + (own - 0.5) * margins[:, None], labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_sigma_damp_has_its_closed_form(temperature: float) -> None:
    u = torch.linspace(-9, 9, 37, dtype=torch.float64)
    loss, gradient = value_and_gradient(SigmaDamp(temperature=temperature), *logits_of(u))
    sigma = 1 / (1 + torch.exp(-u / temperature))
    damped = u * (1 - sigma)
    close(loss, torch.log1p(torch.exp(-damped)).mean())
    slope = (1 - sigma) * (1 - u * sigma / temperature)  # of damped
    by_margin = -slope / (1 + torch.exp(damped)) / len(u)
    signs = 2 * nn.functional.one_hot(torch.arange(len(u)) % 2, 2) - 1
    close(gradient, by_margin[:, None] * signs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("start", [-2.0, 0.0, 3.0])
def test_sigma_damp_is_least_at_its_margin(temperature: float, start: float) -> None:
    logits, labels = logits_of(torch.full((2,), start * temperature, dtype=torch.float64))
    model, batch = Given(logits), Batch(torch.zeros(2, 1, 1, 1), labels)
    steps = torch.optim.SGD(model.parameters(), lr=4 * max(temperature, 1))
    for _ in range(400):
        steps.zero_grad()
        SigmaDamp(temperature=temperature).loss(model, batch, context(labels, 2)).backward()  # type: ignore[no-untyped-call]
        steps.step()
    margins = (model.logits[:, 0] - model.logits[:, 1]) * torch.tensor([1, -1])
    root = 1.2784645427610738  # of x sigmoid(x) = 1
    assert root / (1 + np.exp(-root)) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(
        margins.detach(), torch.full_like(margins, root * temperature), rtol=1e-6, atol=0
    )


VARIANTS: tuple[Objective, ...] = (
    *(objective() for objective in BUILTIN),
    CrossEntropy(class_weights="balanced"),
    CrossEntropy(class_weights=(1.0, 2.0, 0.5, 3.0)),
    Margin(weight=2.0, form="batch_probabilities"),
)
every_objective = pytest.mark.parametrize("objective", VARIANTS, ids=repr)
every_objective_without_draws = pytest.mark.parametrize(
    "objective", [part for part in VARIANTS if not isinstance(part, LlpVat)], ids=repr
)


def classes_for(objective: Objective) -> int:
    """Return how many outputs a network needs; one where the labels are real numbers."""
    if objective.learns_numbers:
        return 1
    return 2 if objective.binary_only else NUM_CLASSES


def network(num_classes: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, num_classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


def images_and_labels(num: int, num_classes: int, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(num)
    images = torch.randn(num, 3, 2, 2, generator=generator, dtype=dtype)
    if num_classes == 1:
        return Batch(images, torch.randn(num, generator=generator, dtype=dtype))
    return Batch(images, torch.randint(num_classes, (num,), generator=generator))


@every_objective
@pytest.mark.parametrize("num", [1, 6])
def test_the_loss_is_a_finite_scalar_with_a_gradient(objective: Objective, num: int) -> None:
    model, batch = (
        network(classes_for(objective)),
        images_and_labels(num, classes_for(objective)),
    )
    loss = objective.loss(model, batch, context(batch.labels, classes_for(objective)))
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@every_objective
def test_a_loss_changes_neither_model_nor_batch_nor_context(objective: Objective) -> None:
    model, batch = (
        network(classes_for(objective)),
        images_and_labels(6, classes_for(objective)),
    )
    known = context(batch.labels, classes_for(objective))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    images, labels, counts = batch.images.clone(), batch.labels.clone(), known.class_counts.clone()
    objective.loss(model, batch, known).backward()  # type: ignore[no-untyped-call]
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.labels, labels)
    assert torch.equal(known.class_counts, counts)
    assert batch.images.grad is None


@every_objective_without_draws
def test_the_gradient_is_that_of_the_value(objective: Objective) -> None:
    model, batch = (
        network(classes_for(objective), torch.float64),
        images_and_labels(6, classes_for(objective), torch.float64),
    )
    known = context(batch.labels, classes_for(objective))
    parameters = tuple(model.parameters())
    names = [name for name, _ in model.named_parameters()]

    def value(*tensors: Tensor) -> Tensor:
        def forward(images: Tensor) -> Any:
            given = dict(zip(names, tensors, strict=True))
            return torch.func.functional_call(model, given, (images,))

        return objective.loss(forward, batch, known)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(value, parameters)


@every_objective_without_draws
def test_the_order_of_the_batch_does_not_matter(objective: Objective) -> None:
    model, batch = (
        network(classes_for(objective), torch.float64),
        images_and_labels(6, classes_for(objective), torch.float64),
    )
    known = context(batch.labels, classes_for(objective))
    turned = batch.select(torch.tensor([3, 0, 5, 1, 4, 2]))
    close(objective.loss(model, turned, known), objective.loss(model, batch, known))


@every_objective
def test_an_objective_is_its_own_configuration(objective: Objective) -> None:
    assert type(objective).model_validate(objective.model_dump()) == objective
    with pytest.raises(ValidationError, match="frozen"):
        objective.kind = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra_forbidden"):
        type(objective).model_validate({"unknown": 1})


def test_kinds_tell_objectives_apart() -> None:
    assert len({objective().kind for objective in BUILTIN}) == len(BUILTIN)
