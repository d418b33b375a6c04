"""The theory against linear models that our own loss makes of our own bags, in float64.

For a given design the risk is known without drawing a response: the solution is linear in them, so
the bias follows from the responses that each direction alone would give, and the variance from a
unit of noise in each bag alone. What is left to chance are the features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from clients.batch import UNKNOWN, Bags, Batch
from clients.objectives import Bag, Instance, InterpolatedBag, Objective
from clients.objectives.base import Context
from fedsim.bag_theory.bag_size import laplace_variance
from fedsim.bag_theory.linear_risk import asymptotic_risk, easy_llp_risk, ridge_risk
from fedsim.data.aggregates import Aggregates
from fedsim.data.bag_draws import Shown
from fedsim.data.supervision import Held, InBags
from fedsim.privacy.label import Laplace, Truncation

CONTEXT = Context(class_counts=torch.empty(0))
RESPONSES_AT_ONCE = 256


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def objective(rho: float) -> Objective:
    ends = {0.0: Bag(criterion="squared"), 1.0: Instance(criterion="squared")}
    return ends.get(rho) or InterpolatedBag(rho=rho, criterion="squared")


@dataclass(frozen=True)
class Design:
    """Examples in bags, and the solution for any responses of the bags."""

    examples: Batch
    objective: Objective

    @property
    def bags(self) -> Bags:
        assert self.examples.bags is not None
        return self.examples.bags

    @property
    def features(self) -> Tensor:
        return self.examples.images.flatten(1)

    def slopes(self, weights: Tensor, responses: Tensor) -> Tensor:
        """Return the gradient, (case, dimension), at weights and responses of each case."""
        network = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False))

        def loss(weight: Tensor, response: Tensor) -> Tensor:
            bags = Bags(self.bags.of_example, response[:, None])
            batch = replace(self.examples, bags=bags)
            parameters = {"1.weight": weight[None]}

            def model(images: Tensor) -> Tensor:
                return functional_call(network, parameters, images)

            return self.objective.loss(model, batch, CONTEXT)  # type: ignore[arg-type]

        return vmap(grad(loss), chunk_size=RESPONSES_AT_ONCE)(weights, responses)

    def curvature(self) -> Tensor:
        """Return the Hessian: the loss is quadratic, so its slopes at unit weights are its rows."""
        d = self.features.shape[1]
        return self.slopes(torch.eye(d, dtype=torch.float64), self.no_responses(d))

    def no_responses(self, num: int) -> Tensor:
        return torch.zeros(num, len(self.bags), dtype=torch.float64)

    def fit(self, responses: Tensor) -> Tensor:
        """Return the minimum of the loss, (case, dimension), for responses (case, bag)."""
        zero = torch.zeros(len(responses), self.features.shape[1], dtype=torch.float64)
        return -torch.linalg.solve(self.curvature(), self.slopes(zero, responses).T).T

    def risk(
        self, signal: float, noise: float, sum_noise: float = 0.0, factor: float = 1.0
    ) -> tuple[float, float]:
        """Return squared bias, averaged over directions, and variance of `factor` times the fit."""
        d = self.features.shape[1]
        bias = factor * self.fit(self.bags.means(self.features).T) - torch.eye(d)
        sizes = self.bags.sizes.double()
        spread = factor * self.fit(torch.diag((noise / sizes + sum_noise / sizes**2).sqrt()))
        return signal * float(bias.square().sum()) / d, float(spread.square().sum())


def design(features: np.ndarray, sizes: np.ndarray, rho: float) -> Design:
    """Return features (example, dimension) in bags of these sizes; they are random already."""
    images = torch.from_numpy(features)[:, None, None, :]
    of_example = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    bags = Bags(of_example, torch.zeros(len(sizes), 1, dtype=torch.float64))
    labels = torch.full((len(images),), UNKNOWN)
    return Design(Batch(images, labels, bags), objective(rho))


def drawn(n: int, d: int, sizes: np.ndarray, rho: float, number: int) -> Design:
    rng = np.random.default_rng([7, number])
    return design(rng.normal(size=(n, d)), sizes, rho)


def equal(n: int, k: int) -> np.ndarray:
    return np.full(n // k, k)


def test_the_fit_agrees_with_another_implementation(oracles: Path) -> None:
    oracle = np.load(oracles / "bags" / "estimator_small.npz")
    order = oracle["bag"].argsort(kind="stable")
    sizes = np.bincount(oracle["bag"])
    for rho, expected in zip(oracle["rho"], oracle["theta"], strict=True):
        small = design(oracle["X"][order], sizes, float(rho))
        responses = torch.from_numpy(oracle["ybar"])[None]
        found = small.fit(responses)
        np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-10)
        assert small.slopes(found, responses).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "rho"),
    [(k, rho) for k in (2, 4, 5, 8) for rho in (0.05, 0.25, 1.0)] + [(2, 0.0), (4, 0.0), (5, 0.0)],
)
def test_the_risk_is_that_of_the_theory(k: int, rho: float) -> None:
    n, d, signal, noise = 2000, 200, 1.0, 0.5
    designs = (drawn(n, d, equal(n, k), rho, number) for number in range(4))
    found = np.array([one.risk(signal, noise) for one in designs])
    expected = asymptotic_risk(k, rho, ratio=n / d, signal=signal, noise=noise)
    risks = found.sum(axis=1)
    assert risks.std(ddof=1) / len(risks) ** 0.5 < 0.005 * risks.mean()
    near = 0.01 if rho else 0.02
    assert risks.mean() == pytest.approx(expected.total, rel=near)
    assert found.mean(axis=0) == pytest.approx(np.array(expected), rel=near, abs=1e-20)


@pytest.mark.slow
def test_bags_of_unequal_sizes_have_the_risk_of_their_mean_size() -> None:
    rng, d = np.random.default_rng(11), 150
    sizes = rng.integers(1, 8, size=400)
    n = int(sizes.sum())
    known = {"ratio": n / d, "signal": 1.0, "noise": 0.5 + 3.0 * (1 / sizes).mean()}
    for rho in (0.05, 1.0):
        designs = [drawn(n, d, sizes, rho, number) for number in range(3)]
        found = np.mean([sum(one.risk(1.0, 0.5, sum_noise=3.0)) for one in designs])
        expected = asymptotic_risk(n / len(sizes), rho, **known).total
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_the_instance_solution_times_the_bag_size_has_the_risk_of_easy_llp() -> None:
    n, d, k = 2000, 200, 4
    designs = [drawn(n, d, equal(n, k), 1.0, number) for number in range(3)]
    found = np.mean([sum(one.risk(1.0, 0.5, factor=k)) for one in designs])
    expected = easy_llp_risk(k, ratio=n / d, signal=1, noise=0.5).total
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_the_best_ridge_penalty_on_bag_means_has_its_risk() -> None:
    n, d, k, signal, noise = 2000, 200, 4, 1.0, 0.5
    risks = []
    for number in range(4):
        between = drawn(n, d, equal(n, k), 0.0, number).curvature().numpy() * n / 2
        shrunk = np.linalg.inv(between + d * noise / signal * np.eye(d))
        bias = shrunk @ between - np.eye(d)
        variance = np.trace(shrunk @ between @ shrunk)
        risks.append(signal * (bias**2).sum() / d + noise * variance)
    expected = ridge_risk(k, ratio=n / d, signal=signal, noise=noise)
    assert np.mean(risks) == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
def test_laplace_noise_inflates_the_risk_as_the_theory_says(oracles: Path) -> None:
    oracle = np.load(oracles / "bags" / "dp_linear.npz")
    n, d, tau, epsilon = (oracle[key].item() for key in ("n", "d", "tau", "eps"))
    noise, num_designs, num_draws = oracle["s2"].item(), 5, 96
    sum_noise = laplace_variance(epsilon, 2 * tau)
    found = np.zeros_like(oracle["theory"])
    for row, k in enumerate(oracle["ks"]):
        for column, rho in enumerate(oracle["rhos"]):
            for number in range(num_designs):
                one = drawn(n, d, equal(n, k), float(rho), number)
                rng = np.random.default_rng([8, number])
                theta = rng.normal(size=(num_draws, d))
                theta /= np.linalg.norm(theta, axis=1, keepdims=True)
                y = theta @ one.features.numpy().T + rng.normal(0, noise**0.5, (num_draws, n))
                released = y.clip(-tau, tau).reshape(num_draws, n // k, k).mean(axis=2)
                released += rng.laplace(0, (sum_noise / 2) ** 0.5 / k, released.shape)
                fitted = one.fit(torch.from_numpy(released)).numpy()
                risk = ((fitted - theta) ** 2).sum(axis=1).mean()
                found[row, column] += risk / num_designs
    expected = asymptotic_risk(
        oracle["ks"][:, None],
        oracle["rhos"],
        ratio=n / d,
        signal=oracle["r2"].item(),
        noise=noise + sum_noise / oracle["ks"][:, None],
    ).total
    np.testing.assert_allclose(found, expected, rtol=0.08)
    chosen = np.take_along_axis(expected, found.argmin(axis=0)[None], axis=0)[0]
    assert (chosen <= 1.03 * expected.min(axis=0)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "rho", "epsilon"), [(4, 0.0, None), (4, 0.05, None), (5, 1.0, None), (5, 0.1, 4.0)]
)
def test_the_risk_from_bags_as_a_site_draws_and_tells_them_is_that_of_the_theory(
    k: int, rho: float, epsilon: float | None
) -> None:
    """From real numbers to responses by the supervision of a scenario, for many true models."""
    n, d, noise, num_models, tau = 2000, 200, 0.5, 200, 9.0
    privacy: dict[str, Any] = {}
    if epsilon is not None:
        privacy["truncation"] = Truncation(low=-tau, high=tau)  # no number is beyond
        privacy["label_privacy"] = Laplace(epsilon=epsilon)
    site = InBags(bag_size=k, response="mean", project=False, **privacy)
    risks: list[float] = []
    for number in range(4):
        rng = np.random.default_rng([9, number])
        features = rng.normal(size=(n, d))
        thetas = rng.normal(size=(num_models, d))
        thetas /= np.linalg.norm(thetas, axis=1, keepdims=True)
        numbers = thetas @ features.T + rng.normal(0, noise**0.5, (num_models, n))
        told = [
            _told(site, mine.astype(np.float32), number, model)
            for model, mine in enumerate(numbers)
        ]
        order = told[0].of_example.argsort(kind="stable")
        fitted = design(features[order], told[0].sizes, rho).fit(
            torch.from_numpy(np.stack([t.responses[:, 0] for t in told]).astype(np.float64))
        )
        risks += np.square(fitted.numpy() - thetas).sum(axis=1).tolist()
    assert np.std(risks) / len(risks) ** 0.5 < 0.005 * np.mean(risks)
    sum_noise = 0.0 if epsilon is None else laplace_variance(epsilon, 2 * tau)
    expected = asymptotic_risk(k, rho, ratio=n / d, signal=1.0, noise=noise + sum_noise / k)
    near = 0.02 if rho == 0 or epsilon else 0.01
    assert np.mean(risks) == pytest.approx(expected.total, rel=near)


def _told(site: InBags, numbers: np.ndarray, draw: int, model: int) -> Aggregates:
    """Return what a site tells of its bags: the same for all models, noise anew for each."""
    shown = Shown(len(numbers), {}, lambda: np.zeros(0, np.uint8))
    held = Held(np.zeros(len(numbers), np.int64), shown, numbers)
    purposes = {"bags_train": [draw], "label_privacy_train": [draw, model]}
    found = site.teach({"train": held}, 2, lambda p: np.random.default_rng(purposes[p]))
    return found.knowledge.aggregates["train"][0]
