"""Losses on bags against loops over bags in numpy, oracles, supervised limits and enumeration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.nn.functional import cross_entropy, one_hot

from clients.batch import UNKNOWN, Bags, Batch
from clients.objectives import (
    BUILTIN,
    Bag,
    BagObjective,
    Context,
    CountLikelihood,
    Dsq,
    EasyLlp,
    ForwardCorrected,
    Instance,
    InterpolatedBag,
    LlpVat,
    Objective,
    OptimalTransport,
    Upm,
)
from clients.objectives.bag import Criterion
from clients.objectives.optimal_transport import transport

Array = NDArray[np.float64]
CRITERIA: tuple[Criterion, ...] = ("squared", "cross_entropy", "logit_cross_entropy")
close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


class Given(nn.Module):
    """A model whose outputs are its only parameter, whatever the images."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs.clone())

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs


def value_and_gradient(
    objective: Objective, outputs: Tensor, known: Bags | Tensor, context: Context
) -> tuple[Tensor, Tensor]:
    """Return the objective and its gradient in the outputs, of bags or of labels."""
    model, images = Given(outputs), torch.zeros(len(outputs), 1, 1, 1)
    if isinstance(known, Bags):
        batch = Batch(images, torch.full((len(outputs),), UNKNOWN), known)
    else:
        batch = Batch(images, known)
    loss = objective.loss(model, batch, context)
    loss.backward()  # type: ignore[no-untyped-call]
    assert model.outputs.grad is not None
    return loss.detach(), model.outputs.grad


def value(objective: Objective, outputs: Any, bags: Bags, prior: Any = (1.0,)) -> float:
    context = Context(torch.as_tensor(prior))
    return float(value_and_gradient(objective, torch.as_tensor(outputs), bags, context)[0])


def bags_of(bag: Any, responses: Any) -> Bags:
    return Bags(torch.as_tensor(bag), torch.as_tensor(responses))


def draw(
    seed: int, *, equal: bool = False, num_classes: int = 4
) -> tuple[Tensor, Bags, NDArray[np.int64]]:
    """Return logits, bags in no order, and the labels behind them."""
    rng = np.random.default_rng(seed)
    sizes = np.full(6, 5) if equal else rng.integers(1, 7, size=7)
    bag = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = rng.integers(num_classes, size=len(bag))
    responses = np.stack([np.eye(num_classes)[labels[bag == a]].mean(0) for a in range(len(sizes))])
    logits = 3 * rng.standard_normal((len(bag), num_classes))
    return torch.from_numpy(logits), bags_of(bag, responses), labels


def reference(logits: Tensor, bags: Bags, loss: Callable[[Array, Array, int], float]) -> float:
    """Return (1/n) sum_a k_a loss(z of the bag, response, k), bag by bag."""
    z, bag = logits.numpy(), bags.of_example.numpy()
    total = 0.0
    for number, response in enumerate(bags.responses.numpy()):
        inside = z[bag == number]
        total += len(inside) * loss(inside, response, len(inside))
    return total / len(z)


def numpy_bag(criterion: Criterion) -> Callable[[Array, Array, int], float]:
    def loss(z: Array, pi: Array, k: int) -> float:
        if criterion == "squared":
            return float(((pi - softmax(z, axis=1).mean(0)) ** 2).sum())
        if criterion == "cross_entropy":
            return float(-pi @ np.log(softmax(z, axis=1).mean(0)))
        mean = z.mean(0)
        return float(-pi @ (mean - logsumexp(mean)))

    return loss


def numpy_instance(criterion: Criterion) -> Callable[[Array, Array, int], float]:
    def loss(z: Array, pi: Array, k: int) -> float:
        if criterion == "squared":
            return float(np.mean([((pi - softmax(row)) ** 2).sum() for row in z]))
        return float(np.mean([-pi @ log_softmax(row) for row in z]))

    return loss


def numpy_regulariser(criterion: Criterion) -> Callable[[Array, Array, int], float]:
    """Return R as it is written in closed form, not as a difference."""

    def loss(z: Array, pi: Array, k: int) -> float:
        p = softmax(z, axis=1)
        if criterion == "squared":
            return float(sum(((a - b) ** 2).sum() for a in p for b in p) / (2 * k**2))
        if criterion == "cross_entropy":
            return float(pi @ (np.log(p.mean(0)) - np.log(p).mean(0)))
        return float(logsumexp(z, axis=1).mean() - logsumexp(z.mean(0)))

    return loss


def numpy_transport(z: Array, pi: Array, k: int, *, hard: bool = False) -> float:
    """Cross-entropy with pseudo-labels from Sinkhorn's iterations without logarithms."""
    kernel, u = softmax(z, axis=1), np.ones(k)
    for _ in range(500):
        v = pi / (kernel.T @ u)
        u = 1 / k / (kernel @ v)
    labels = k * u[:, None] * kernel * v
    if hard:
        labels = np.eye(len(pi))[labels.argmax(1)]
    return float(-(labels * log_softmax(z, axis=1)).sum() / k)


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_instance_is_bag_plus_regulariser(criterion: Criterion, equal: bool) -> None:
    for seed in range(5):
        logits, bags, _ = draw(seed, equal=equal)
        bag = value(Bag(criterion=criterion), logits, bags)
        instance = value(Instance(criterion=criterion), logits, bags)
        assert bag == pytest.approx(reference(logits, bags, numpy_bag(criterion)), abs=1e-12)
        expected = reference(logits, bags, numpy_instance(criterion))
        assert instance == pytest.approx(expected, abs=1e-12)
        regulariser = reference(logits, bags, numpy_regulariser(criterion))
        assert regulariser > 0.01
        assert instance - bag == pytest.approx(regulariser, abs=1e-12)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_interpolation_is_linear_between_bag_and_instance(criterion: Criterion) -> None:
    logits, bags, _ = draw(5)
    bag, instance = (
        value_and_gradient(part(criterion=criterion), logits, bags, Context(torch.ones(4)))
        for part in (Bag, Instance)
    )
    for rho in (0.0, 0.25, 1.0, 2.5):
        mixed = value_and_gradient(
            InterpolatedBag(criterion=criterion, rho=rho), logits, bags, Context(torch.ones(4))
        )
        for found, low, high in zip(mixed, bag, instance, strict=True):
            close(found, low + rho * (high - low))


@pytest.mark.parametrize("name", ["identity_equal", "identity_unequal"])
def test_squared_losses_agree_with_the_oracle(oracles: Path, name: str) -> None:
    with np.load(oracles / "bags" / f"{name}.npz") as file:
        found = dict(file)
    bags, f = bags_of(found["bag"], found["ybar"][:, None]), found["f"][:, None]
    bag = value(Bag(criterion="squared"), f, bags)
    instance = value(Instance(criterion="squared"), f, bags)
    assert bag == pytest.approx(float(found["L_bag"]), abs=1e-12)
    assert instance == pytest.approx(float(found["L_inst"]), abs=1e-12)
    assert instance - bag == pytest.approx(float(found["R"]), abs=1e-12)
    for rho, expected in zip(found["rho"], found["L_int"], strict=True):
        mixed = value(InterpolatedBag(criterion="squared", rho=float(rho)), f, bags)
        assert mixed == pytest.approx(float(expected), abs=1e-12)


def test_two_numbers_that_miss_their_mean_cost_the_instance_loss_alone() -> None:
    bags, f = bags_of([0, 0], [[4.0]]), torch.tensor([[3.0], [5.0]])
    assert value(Bag(criterion="squared"), f, bags) == 0
    assert value(Instance(criterion="squared"), f, bags) == 1
    assert value(InterpolatedBag(criterion="squared", rho=0.25), f, bags) == 0.25


@pytest.mark.parametrize("index", range(3))
def test_the_linear_estimator_has_its_closed_form(oracles: Path, index: int) -> None:
    with np.load(oracles / "bags" / "estimator_small.npz") as file:
        found = {name: torch.from_numpy(file[name]) for name in file.files}
    objective = InterpolatedBag(criterion="squared", rho=float(found["rho"][index]))
    batch = Batch(
        found["X"], torch.full((60,), UNKNOWN), bags_of(found["bag"], found["ybar"][:, None])
    )

    def loss(theta: Tensor) -> Tensor:
        model: Any = lambda x: x @ theta[:, None]  # noqa: E731
        return objective.loss(model, batch, Context(torch.ones(1)))

    origin = torch.zeros(5, dtype=torch.float64)
    gradient, curvature = jacobian(loss, origin), hessian(loss, origin)
    theta = -torch.linalg.solve(curvature, gradient)
    torch.testing.assert_close(theta, found["theta"][index], rtol=1e-10, atol=1e-10)


@pytest.fixture(scope="module")
def class_losses(oracles: Path) -> dict[str, NDArray[Any]]:
    with np.load(oracles / "bags" / "class_losses_k5.npz") as file:
        return dict(file)


@pytest.mark.parametrize(
    ("objective", "name", "tolerance"),
    [
        (Bag(), "dllp_ce", 1e-10),
        (Bag(criterion="logit_cross_entropy"), "bag_logitmean", 1e-10),
        (Instance(), "inst_ce", 1e-10),
        (InterpolatedBag(rho=0.3), "interp_03", 1e-10),
        (EasyLlp(), "easyllp", 1e-10),
        (Upm(), "upm", 1e-10),
        (Dsq(), "dsq", 1e-10),
        (OptimalTransport(alpha=0, num_iterations=100), "ot_soft_reg1", 1e-6),
    ],
    ids=lambda part: getattr(part, "kind", None),
)
def test_losses_of_classes_agree_with_the_oracle(
    class_losses: dict[str, NDArray[Any]], objective: Objective, name: str, tolerance: float
) -> None:
    bags = bags_of(class_losses["bag"], class_losses["pi"])
    found = value(objective, class_losses["logits"], bags, class_losses["prior"])
    assert found == pytest.approx(float(class_losses[name]), abs=tolerance)


def test_the_proportion_loss_is_a_divergence_up_to_the_entropy_of_the_responses(
    class_losses: dict[str, NDArray[Any]],
) -> None:
    pi = class_losses["pi"]
    entropy = -(pi * np.log(pi.clip(1e-300))).sum(1).mean()
    found = value(Bag(), class_losses["logits"], bags_of(class_losses["bag"], pi))
    assert found - entropy == pytest.approx(float(class_losses["dllp_kl"]), abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_what_corrects_by_the_prior_agrees_with_loops_over_bags(seed: int) -> None:
    logits, bags, _ = draw(seed)
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    losses = -log_softmax(logits.numpy(), axis=1)
    expected, p_mean = losses.mean(0), softmax(logits.numpy(), axis=1).mean(0)

    def easy(z: Array, pi: Array, k: int) -> float:
        own = -log_softmax(z, axis=1)
        return float(np.mean([(k * pi - (k - 1) * prior) @ row for row in own]))

    def upm(z: Array, pi: Array, k: int) -> float:
        own = -log_softmax(z, axis=1)
        return float((pi - prior) @ (own - expected).sum(0) + prior @ expected)

    def dsq(z: Array, pi: Array, k: int) -> float:
        own = softmax(z, axis=1).mean(0)
        return float(k * ((pi - own) ** 2).sum() - (k - 1) * ((p_mean - prior) ** 2).sum())

    for objective, loss in ((EasyLlp(), easy), (Upm(), upm), (Dsq(), dsq)):
        found = value(objective, logits, bags, 50 * prior)
        assert found == pytest.approx(reference(logits, bags, loss), abs=1e-10)


@pytest.mark.parametrize("level", [0.0, 0.7, 40.0])
def test_a_flooded_loss_does_not_fall_below_its_level(level: float) -> None:
    logits, bags, _ = draw(1)
    plain, flooded = (
        value(EasyLlp(flood_level=flood), logits, bags, torch.ones(4)) for flood in (None, level)
    )
    assert flooded == pytest.approx(abs(plain - level) + level)
    sure = torch.full((len(logits), 4), -60.0).double()
    sure[:, 0] = 60.0
    lopsided = bags_of(bags.of_example, torch.tensor([0.97, 0.01, 0.01, 0.01]).repeat(len(bags), 1))
    low = value(EasyLlp(), sure, lopsided, torch.ones(4))
    assert low < 0
    assert value(EasyLlp(flood_level=level), sure, lopsided, torch.ones(4)) >= level


def supervised(outputs: Tensor, known: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Return the loss that everyone knows, and its gradient."""
    given = outputs.clone().requires_grad_()
    if loss == "cross_entropy":
        found = cross_entropy(given, known)
    elif loss == "brier":
        apart = given.softmax(1) - one_hot(known, outputs.shape[1])
        found = apart.square().sum(1).mean()
    else:
        found = (given[:, 0] - known).square().mean()
    (gradient,) = torch.autograd.grad(found, given)
    return found.detach(), gradient


SUPERVISED_LIMITS: list[tuple[Objective, str]] = [
    (Bag(), "cross_entropy"),
    (Bag(criterion="logit_cross_entropy"), "cross_entropy"),
    (Bag(criterion="squared"), "brier"),
    (Instance(), "cross_entropy"),
    (Instance(criterion="logit_cross_entropy"), "cross_entropy"),
    (Instance(criterion="squared"), "brier"),
    (InterpolatedBag(rho=0.3), "cross_entropy"),
    (InterpolatedBag(rho=2.0, criterion="logit_cross_entropy"), "cross_entropy"),
    (InterpolatedBag(rho=0.3, criterion="squared"), "brier"),
    (EasyLlp(), "cross_entropy"),
    (EasyLlp(flood_level=0.0), "cross_entropy"),
    (Dsq(), "brier"),
    (OptimalTransport(), "cross_entropy"),
    (OptimalTransport(alpha=0, regularisation=0.1), "cross_entropy"),
    (OptimalTransport(alpha=0, pseudo_labels="hard"), "cross_entropy"),
    (CountLikelihood(), "cross_entropy"),
    (LlpVat(weight=0), "cross_entropy"),
    (ForwardCorrected(), "cross_entropy"),
]


@pytest.mark.parametrize(("objective", "loss"), SUPERVISED_LIMITS, ids=repr)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_bags_of_size_one_are_supervised(objective: Objective, loss: str, num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    logits = torch.from_numpy(3 * rng.standard_normal((11, num_classes)))
    labels = torch.from_numpy(rng.integers(num_classes, size=11))
    foreign = Context(torch.arange(1, 1 + num_classes))
    expected = supervised(logits, labels, loss)
    close(value_and_gradient(objective, logits, labels, foreign), expected)
    if "bags" in objective.takes:
        order = torch.from_numpy(rng.permutation(11))
        singles = Bags(order, one_hot(labels, num_classes)[order.argsort()].double())
        close(value_and_gradient(objective, logits, singles, foreign), expected)


def test_upm_is_supervised_on_a_whole_site_alone() -> None:
    logits, _, labels = draw(2)
    known = torch.from_numpy(labels)
    expected = supervised(logits, known, "cross_entropy")
    close(value_and_gradient(Upm(), logits, known, Context(known.bincount(minlength=4))), expected)
    foreign = value_and_gradient(Upm(), logits, known, Context(torch.tensor([1, 2, 3, 4])))
    assert abs(float(foreign[0] - expected[0])) > 1e-3
    assert (foreign[1] - expected[1]).abs().max() > 1e-3


def test_virtual_adversarial_training_is_not_supervised() -> None:
    images, labels = torch.randn(8, 1, 2, 2), torch.arange(8) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    plain = cross_entropy(model(images), labels)
    moved = LlpVat().loss(model, Batch(images, labels), Context(torch.ones(3)))
    assert float((moved - plain).detach()) > 1e-4


@pytest.mark.parametrize("objective_of", [Bag, Instance, partial(InterpolatedBag, rho=1.7)])
def test_numbers_one_by_one_cost_the_squared_error(objective_of: Callable[..., Objective]) -> None:
    rng = np.random.default_rng(0)
    f, target = torch.from_numpy(rng.standard_normal((9, 1))), torch.from_numpy(rng.normal(size=9))
    found = value_and_gradient(objective_of(criterion="squared"), f, target, Context(torch.ones(1)))
    close(found, supervised(f, target, "squared"))


X = torch.tensor([[1.2, -0.4, 0.3], [-0.9, 0.8, 0.1], [0.2, 0.0, -1.5]], dtype=torch.float64)
"""Logits of the three points that enumeration knows."""
ATOMS = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 1], [1, 2], [2, 0]])
"""Point and label, each with the same chance."""


def prior_of(atoms: Tensor) -> Tensor:
    return one_hot(atoms[:, 1], 3).double().mean(dim=0)


def every_bag(size: int, atoms: Tensor = ATOMS) -> tuple[Tensor, Bags]:
    """Return the logits and the bags of all that can be drawn, each as often as it is."""
    drawn = atoms[torch.tensor(list(product(range(len(atoms)), repeat=size)))]
    of_example = torch.arange(len(drawn)).repeat_interleave(size)
    responses = one_hot(drawn[:, :, 1], 3).double().mean(dim=1)
    return X[drawn[:, :, 0].flatten()], Bags(of_example, responses)


def true_risk(loss: str, atoms: Tensor = ATOMS) -> float:
    return float(supervised(X[atoms[:, 0]], atoms[:, 1], loss)[0])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_debiased_losses_are_unbiased_over_all_bags(size: int) -> None:
    logits, bags = every_bag(size)
    for objective, loss in (
        (EasyLlp(), "cross_entropy"),
        (Upm(), "cross_entropy"),
        (Dsq(), "brier"),
    ):
        found = value(objective, logits, bags, prior_of(ATOMS))
        assert found == pytest.approx(true_risk(loss), abs=1e-12), objective
    for biased in (Bag(), Instance()):
        off = abs(value(biased, logits, bags) - true_risk("cross_entropy"))
        assert off < 1e-12 if size == 1 else off > 1e-2


@pytest.mark.parametrize("size", [2, 4])
def test_a_foreign_prior_costs_the_bias_that_is_stated(size: int) -> None:
    logits, bags = every_bag(size)
    own, foreign = prior_of(ATOMS), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    losses, p = -logits.log_softmax(1).mean(0), logits.softmax(1).mean(0)
    context = Context(6 * own, population_counts=1000 * foreign)

    def bias(objective: Objective, loss: str) -> float:
        return float(value_and_gradient(objective, logits, bags, context)[0]) - true_risk(loss)

    assert bias(EasyLlp(prior="population"), "cross_entropy") == pytest.approx(
        (size - 1) * float((own - foreign) @ losses), abs=1e-12
    )
    assert bias(Upm(prior="population"), "cross_entropy") == pytest.approx(
        float((foreign - own) @ losses), abs=1e-12
    )
    assert bias(Dsq(prior="population"), "brier") == pytest.approx(
        (size - 1) * float((p - own).square().sum() - (p - foreign).square().sum()), abs=1e-12
    )


def test_batches_of_few_bags_cost_the_bias_that_is_stated() -> None:
    atoms = ATOMS[[0, 3, 4]]
    (logits, bags), prior = every_bag(2, atoms), prior_of(atoms)
    upm, dsq = [], []
    for pair in product(range(len(bags)), repeat=2):
        index, chosen = bags.select(torch.tensor(pair))
        upm.append(value(Upm(), logits[index], chosen, prior))
        dsq.append(value(Dsq(), logits[index], chosen, prior))
    constant = float(prior @ -logits.log_softmax(1).mean(0))
    expected = constant + (1 - 1 / 2) * (true_risk("cross_entropy", atoms) - constant)
    assert np.mean(upm) == pytest.approx(expected, abs=1e-12)
    variance = float(logits.softmax(1).var(dim=0, correction=0).sum())
    assert variance > 0.1
    assert np.mean(dsq) == pytest.approx(true_risk("brier", atoms) - variance / 4, abs=1e-12)


@pytest.mark.parametrize("objective", [EasyLlp, Upm, Dsq])
def test_a_prior_that_cannot_be_known_is_refused(objective: type[EasyLlp]) -> None:
    logits, bags, _ = draw(0)
    with pytest.raises(ValueError, match="use `prior: site`"):
        value(objective(prior="population"), logits, bags, torch.ones(4))


@pytest.mark.parametrize("seed", range(3))
def test_pseudo_labels_agree_with_plain_sinkhorn_iterations(seed: int) -> None:
    logits, bags, _ = draw(seed)
    bag = reference(logits, bags, numpy_bag("cross_entropy"))
    soft = reference(logits, bags, numpy_transport)
    hard = reference(logits, bags, partial(numpy_transport, hard=True))
    many = partial(OptimalTransport, num_iterations=500)
    assert value(many(), logits, bags) == pytest.approx(0.6 * bag + 0.4 * soft, abs=1e-9)
    assert value(many(alpha=0, pseudo_labels="hard"), logits, bags) == pytest.approx(hard)
    assert hard != pytest.approx(soft, abs=1e-3)


def test_pseudo_labels_are_distributions_that_keep_to_the_response() -> None:
    logits, bags, _ = draw(3)
    labels = transport(logits.log_softmax(1), bags, num_iterations=300)
    close(labels.sum(1), torch.ones(len(logits), dtype=torch.float64))
    torch.testing.assert_close(bags.means(labels), bags.responses, rtol=0, atol=1e-8)


def test_sure_pseudo_labels_of_two_classes_go_to_the_most_probable() -> None:
    rng = np.random.default_rng(4)
    scores = torch.from_numpy(rng.standard_normal(8))
    logits = torch.stack([torch.zeros_like(scores), scores], 1)
    bags = bags_of([0] * 8, torch.tensor([[5 / 8, 3 / 8]], dtype=torch.float64))
    labels = transport(logits.log_softmax(1) / 0.02, bags, 2000)
    assert set(labels[:, 1].topk(3).indices.tolist()) == set(scores.topk(3).indices.tolist())
    assert labels[:, 1].sort().values[-3:].min() > 0.9


def test_no_gradient_passes_through_pseudo_labels() -> None:
    logits, bags, _ = draw(6)
    _, gradient = value_and_gradient(
        OptimalTransport(alpha=0), logits, bags, Context(torch.ones(4))
    )
    labels = transport(logits.log_softmax(1), bags, 20)
    close(gradient, (logits.softmax(1) - labels) / len(logits))


NOISY = [
    Bag(),
    Bag(criterion="squared"),
    Bag(criterion="logit_cross_entropy"),
    Instance(),
    InterpolatedBag(rho=0.5),
    EasyLlp(),
    EasyLlp(prior="population", flood_level=0.5),
    Upm(),
    Dsq(),
    OptimalTransport(),
    OptimalTransport(pseudo_labels="hard", regularisation=0.01),
    CountLikelihood(),
]


@given(
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.integers(2, 4),
    noise=st.sampled_from([0.0, 0.3, 5.0, 1e4]),
    scale=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
)
@settings(deadline=None, max_examples=25)
def test_every_loss_is_finite_whatever_noise_does(
    seed: int, num_classes: int, noise: float, scale: float
) -> None:
    logits, bags, _ = draw(seed, num_classes=num_classes)
    rng = np.random.default_rng(seed)
    responses = bags.responses + torch.from_numpy(noise * rng.laplace(size=bags.responses.shape))
    shown = Bags(bags.of_example, responses.float())
    counts = shown.sizes.float() @ shown.responses
    for objective in NOISY:
        loss, gradient = value_and_gradient(
            objective, scale * logits.float(), shown, Context(counts, population_counts=-counts)
        )
        assert loss.isfinite(), objective
        assert gradient.isfinite().all(), objective


@pytest.mark.parametrize(
    "objective",
    [*(Bag(criterion=criterion) for criterion in CRITERIA), Instance(), EasyLlp(), Upm(), Dsq()],
    ids=repr,
)
def test_noise_of_mean_zero_leaves_the_gradient_unbiased(objective: BagObjective) -> None:
    logits, bags, _ = draw(8)
    noise = torch.from_numpy(np.random.default_rng(1).laplace(size=bags.responses.shape))
    context = Context(torch.tensor([3, 4, 5, 6]))
    plus, minus, clean = (
        value_and_gradient(objective, logits, Bags(bags.of_example, bags.responses + e), context)[1]
        for e in (noise, -noise, 0 * noise)
    )
    close((plus + minus) / 2, clean)
    assert (plus - clean).abs().max() > 1e-3


@pytest.mark.parametrize("objective", [OptimalTransport(alpha=0), CountLikelihood()], ids=repr)
def test_what_rounds_or_projects_responses_is_biased_by_noise(objective: BagObjective) -> None:
    logits, bags, _ = draw(8)
    noise = torch.from_numpy(np.random.default_rng(1).laplace(size=bags.responses.shape))
    plus, minus, clean = (
        value_and_gradient(
            objective, logits, Bags(bags.of_example, bags.responses + e), Context(torch.ones(4))
        )[1]
        for e in (noise, -noise, 0 * noise)
    )
    assert ((plus + minus) / 2 - clean).abs().max() > 1e-3


@pytest.mark.parametrize(
    "part",
    [part for part in BUILTIN if "bags" in part.takes and part is not LlpVat],
    ids=lambda part: part.__name__,
)
def test_neither_order_nor_numbering_of_bags_matters(part: type[Objective]) -> None:
    logits, bags, _ = draw(9)
    order, numbering = torch.randperm(len(logits)), torch.randperm(len(bags))
    context = Context(torch.tensor([3, 4, 5, 6]))
    plain, gradient = value_and_gradient(part(), logits, bags, context)
    turned = Bags(numbering[bags.of_example][order], bags.responses[numbering.argsort()])
    found, its_gradient = value_and_gradient(part(), logits[order], turned, context)
    close(found, plain)
    close(its_gradient, gradient[order])


def test_half_precision_outputs_are_added_up_in_single() -> None:
    logits, bags, _ = draw(10)
    loss, _ = value_and_gradient(Bag(), logits.bfloat16(), bags, Context(torch.ones(4)))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("part", "keys"),
    [
        (InterpolatedBag, {"rho": -0.1}),
        (InterpolatedBag, {"rho": float("nan")}),
        (Bag, {"criterion": "hinge"}),
        (EasyLlp, {"flood_level": -1.0}),
        (OptimalTransport, {"alpha": 1.5}),
        (OptimalTransport, {"regularisation": 0.0}),
        (LlpVat, {"ramp": 2.0}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    part: type[Objective], keys: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        part(**keys)
