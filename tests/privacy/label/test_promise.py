"""The promise of epsilon, by exact densities; half the noise, or the paper's scale, breaks it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import dlaplace, laplace, norm

from fedsim.privacy.accounting import pure_epsilon
from fedsim.privacy.label import (
    Gaussian,
    Geometric,
    LabelPrivacy,
    Laplace,
    Relation,
    Truncation,
    of_counts,
    of_sums,
)

SIZE = 3
PURE = {"laplace": Laplace, "geometric": Geometric}
RELATIONS: tuple[Relation, ...] = ("replace_one", "zero_out")


def log_density(name: str, scale: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return it of independent noise, summed over the last axis."""
    law = laplace(scale=scale).logpdf if name == "laplace" else dlaplace(1 / scale).logpmf
    found: NDArray[np.float64] = law(values).sum(axis=-1)
    return found


def worst_log_ratio(name: str, scale: float, num_classes: int, relation: Relation) -> float:
    """Return the largest change of a log density over all neighbours and many releases."""
    told = range(1, num_classes) if num_classes == 2 else range(num_classes)
    vectors = list(product(range(num_classes), repeat=SIZE))
    releases = np.array(list(product(range(-3, SIZE + 4), repeat=len(told))), dtype=float)
    worst = 0.0
    for labels in vectors:
        others = (
            [other for other in vectors if np.not_equal(labels, other).sum() == 1]
            if relation == "replace_one"
            else [(*labels[:i], -1, *labels[i + 1 :]) for i in range(SIZE)]
        )
        here, *there = (
            log_density(name, scale, releases - [v.count(c) for c in told])
            for v in (labels, *others)
        )
        worst = max(worst, *(float(np.abs(here - density).max()) for density in there))
    return worst


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("name", PURE)
def test_no_neighbour_is_more_than_epsilon_away_and_half_the_noise_would_not_do(
    name: str, num_classes: int, relation: Relation
) -> None:
    privacy = PURE[name](epsilon=1.5, relation=relation)
    scale = privacy.scale(of_counts(num_classes, relation))
    assert worst_log_ratio(name, scale, num_classes, relation) == pytest.approx(1.5, rel=1e-9)
    assert worst_log_ratio(name, scale / 2, num_classes, relation) == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("relation", RELATIONS)
def test_gaussian_noise_keeps_delta_and_half_of_it_does_not(relation: Relation) -> None:
    epsilon, delta = 1.5, 1e-4
    sensitivity = of_counts(3, relation)
    sigma = Gaussian(epsilon=epsilon, delta=delta, relation=relation).scale(sensitivity)

    def spent(sigma: float) -> float:
        """Return the integral of max(0, p - e^epsilon q) along the line between two neighbours."""
        p, q = norm(sensitivity.l2, sigma).pdf, norm(0, sigma).pdf
        crossing = epsilon * sigma**2 / sensitivity.l2 + sensitivity.l2 / 2
        return float(
            quad(lambda x: p(x) - np.exp(epsilon) * q(x), crossing, crossing + 40 * sigma)[0]
        )

    assert spent(sigma) == pytest.approx(delta, rel=1e-6)
    assert spent(sigma / 2) > 100 * delta


def test_the_scale_of_the_paper_hides_a_label_that_is_replaced_half_as_well() -> None:
    tau, k, epsilon = 3.0, 8, 0.7
    truncation = Truncation(low=-tau, high=tau)
    paper = Laplace(epsilon=epsilon, relation="zero_out")
    ours = Laplace(epsilon=epsilon)
    b = paper.scale(of_sums(truncation, "zero_out")) / k
    assert b == pytest.approx(tau / (k * epsilon))
    assert ours.scale(of_sums(truncation, "replace_one")) / k == pytest.approx(2 * b)
    mean = 0.4  # of a bag with one target at tau, which becomes 0 or -tau
    apart = [
        float(laplace(mean, b).logpdf(mean + 1) - laplace(mean - moved / k, b).logpdf(mean + 1))
        for moved in (tau, 2 * tau)
    ]
    assert apart == pytest.approx([epsilon, 2 * epsilon])
    assert pure_epsilon({paper.event_of_means(truncation).event: 1}) == pytest.approx(apart[0])


def test_the_oracles_agree(oracles: object) -> None:
    oracle = np.load(f"{oracles}/bags/privacy.npz")
    risk = {name for name in oracle if name.startswith("kstar_")}  # of the linear model, not ours
    assert set(oracle) - risk == {
        "k", "eps", "delta", "L1", "L2", "laplace_b", "geom_alpha_counts", "gauss_sigma_analytic",
        "gauss_sigma_classic_eps_le_1", "zcdp_per_release",
    }  # fmt: skip
    k, all_epsilons, delta = oracle["k"][:, None], oracle["eps"], float(oracle["delta"])
    sensitivity = of_counts(5, "replace_one")

    def scales(make: type[LabelPrivacy], **keys: float) -> NDArray[np.float64]:
        found = [make(epsilon=epsilon, **keys).scale(sensitivity) for epsilon in all_epsilons]
        return np.array(found)

    np.testing.assert_allclose(sensitivity.l1 / k[:, 0], oracle["L1"], rtol=1e-12)
    np.testing.assert_allclose(sensitivity.l2 / k[:, 0], oracle["L2"], rtol=1e-12)
    np.testing.assert_allclose(scales(Laplace) / k, oracle["laplace_b"], rtol=1e-12)
    alphas = np.exp(-1 / scales(Geometric))
    np.testing.assert_allclose(alphas, oracle["geom_alpha_counts"], rtol=1e-12)
    sigmas = scales(Gaussian, delta=delta) / k
    np.testing.assert_allclose(sigmas, oracle["gauss_sigma_analytic"], rtol=1e-6)
    zcdp = (sensitivity.l2 / k) ** 2 / (2 * sigmas**2)
    np.testing.assert_allclose(zcdp, oracle["zcdp_per_release"], rtol=1e-6)
    classic = oracle["gauss_sigma_classic_eps_le_1"]
    valid = np.isfinite(classic)
    assert valid.sum() == 12
    assert (sigmas[valid] < classic[valid]).all()
