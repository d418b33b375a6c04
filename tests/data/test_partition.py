"""Partitions: nothing lost, nothing twice, the minimum met, and the statistics as published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from fedsim.data.partition import (
    BUILTIN,
    LARGEST_ALPHA,
    Dirichlet,
    Iid,
    Partition,
    Quantity,
    apportion,
    fill,
)
from fedsim.errors import DataError
from fedsim.plugins import kind_of

Labels = dict[str, NDArray[np.int64]]
alphas = st.floats(min_value=1e-300, max_value=LARGEST_ALPHA)


def draw_labels(seed: int, sizes: dict[str, int], num_classes: int) -> Labels:
    """Return random labels of unequal prevalence."""
    rng = np.random.default_rng(seed)
    prevalence = rng.dirichlet(np.ones(num_classes))
    return {split: rng.choice(num_classes, size=n, p=prevalence) for split, n in sizes.items()}


def class_counts(sites: list[Labels], labels: Labels, split: str, num_classes: int) -> Any:
    """Return (site, class) counts."""
    return np.array([np.bincount(labels[split][s[split]], minlength=num_classes) for s in sites])


@st.composite
def partitions(draw: Any) -> Any:
    least = draw(st.integers(1, 12))
    part = draw(st.sampled_from(BUILTIN))
    alpha = {} if part is Iid else {"alpha": draw(alphas)}
    return part(min_examples=least, **alpha)


@settings(deadline=None)
@given(
    partition=partitions(),
    seed=st.integers(0, 2**32),
    num_sites=st.integers(1, 12),
    num_classes=st.integers(1, 6),
    sizes=st.tuples(st.integers(0, 200), st.integers(0, 60), st.integers(0, 60)),
)
def test_each_example_lands_on_exactly_one_site(
    partition: Partition,
    seed: int,
    num_sites: int,
    num_classes: int,
    sizes: tuple[int, int, int],
) -> None:
    named = dict(zip(("train", "validation", "test"), sizes, strict=True))
    labels = draw_labels(seed, named, num_classes)

    def split() -> list[Labels]:
        return partition.split(labels, num_sites, num_classes, np.random.default_rng(seed))

    if sizes[0] < num_sites * partition.min_examples:
        with pytest.raises(DataError, match="ask for fewer sites"):
            split()
        return
    sites = split()
    assert len(sites) == num_sites
    for name, n in named.items():
        parts = [site[name] for site in sites]
        assert all((np.diff(part) > 0).all() for part in parts)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
        least = partition.min_examples if name == "train" else min(1, n // num_sites)
        assert min(len(part) for part in parts) >= least
    again = split()
    for site, same in zip(sites, again, strict=True):
        for name in named:
            np.testing.assert_array_equal(site[name], same[name])


@given(
    seed=st.integers(0, 2**32),
    alpha=st.floats(0.01, 100),
    num_sites=st.integers(1, 20),
    num_examples=st.lists(st.integers(0, 50), min_size=1, max_size=8),
)
def test_apportioned_counts_are_the_shares_rounded(
    seed: int, alpha: float, num_sites: int, num_examples: list[int]
) -> None:
    totals = np.array(num_examples)
    shares = np.random.default_rng(seed).dirichlet(np.full(num_sites, alpha), len(totals)).T
    counts = apportion(shares, totals)
    np.testing.assert_array_equal(counts.sum(axis=0), totals)
    assert np.abs(counts - shares * totals).max() < 1 + 1e-9
    assert (counts[shares == 0] == 0).all()


@pytest.mark.parametrize("num_sites", [2, 3, 7, 49])
def test_shares_of_whole_examples_are_kept_exactly(num_sites: int) -> None:
    counts = np.random.default_rng(num_sites).integers(1, 30, size=(num_sites, 9))
    shares = counts / counts.sum(axis=0)
    np.testing.assert_array_equal(apportion(shares, counts.sum(axis=0)), counts)


def test_fill_keeps_class_totals_and_spares_sites_that_have_enough() -> None:
    counts = np.array([[40, 0, 3], [0, 9, 0], [1, 0, 0], [0, 0, 0]])
    shares = np.array([[0.9, 0, 0.4], [0, 1, 0.1], [0.1, 0, 0.5], [0, 0, 0]])
    filled = fill(counts, shares, 8, np.random.default_rng(0))
    np.testing.assert_array_equal(filled.sum(axis=0), counts.sum(axis=0))
    assert filled.sum(axis=1).tolist() == [28, 9, 8, 8]
    assert filled[2, 1] == 0, "a class of which the site has no share"


@pytest.mark.parametrize("num_sites", [2, 5, 8, 33])
def test_iid_sites_are_equal_to_within_one(num_sites: int) -> None:
    rng = np.random.default_rng(1)
    sizes = {"train": 997, "validation": 211, "test": 100}
    labels = {split: rng.integers(9, size=n) for split, n in sizes.items()}
    sites = Iid().split(labels, num_sites, 9, np.random.default_rng(0))
    for split in labels:
        counts = class_counts(sites, labels, split, 9)
        assert np.ptp(counts, axis=0).max() <= 1
        assert np.ptp(counts.sum(axis=1)) <= 1


def test_quantity_changes_sizes_but_not_the_class_mix() -> None:
    labels = draw_labels(2, {"train": 5000, "validation": 1000}, 4)
    overall = np.bincount(labels["train"], minlength=4) / 5000
    sites = Quantity(alpha=0.5, min_examples=200).split(labels, 6, 4, np.random.default_rng(5))
    counts = class_counts(sites, labels, "train", 4)
    sizes = counts.sum(axis=1)
    assert sizes.max() > 3 * sizes.min()
    unfilled = sizes > 200
    assert unfilled.sum() >= 2
    mix = counts / sizes[:, None]
    assert np.abs(mix - overall)[unfilled].max() < 0.05


def test_dirichlet_shares_have_the_published_mean_and_variance() -> None:
    num_sites, alpha = 5, 0.7
    rng = np.random.default_rng(3)
    shares = np.array([Dirichlet(alpha=alpha).proportions(num_sites, 3, rng) for _ in range(4000)])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    mean, variance = 1 / num_sites, (1 / num_sites) * (1 - 1 / num_sites) / (num_sites * alpha + 1)
    np.testing.assert_allclose(shares.mean(axis=0), mean, atol=4 * (variance / 4000) ** 0.5)
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=0.08)
    wrong = (1 / num_sites) * (1 - 1 / num_sites) / (num_sites * 1.5 * alpha + 1)
    assert abs(shares.var() / wrong - 1) > 0.2, "would notice another alpha"
    correlation = np.corrcoef(shares[:, 0, 0], shares[:, 0, 1])[0, 1]
    assert abs(correlation) < 0.06, "classes are drawn independently"


def test_quantity_sizes_have_the_published_mean_and_variance() -> None:
    rng = np.random.default_rng(4)
    sizes = np.array([Quantity(alpha=2).proportions(4, 3, rng) for _ in range(4000)])
    np.testing.assert_array_equal(sizes[:, :, 0], sizes[:, :, 2])
    np.testing.assert_allclose(sizes[:, :, 0].var(axis=0), 0.25 * 0.75 / 9, rtol=0.1)


def test_a_small_alpha_is_skewed_and_a_large_one_nearly_iid() -> None:
    labels = draw_labels(6, {"train": 6000}, 5)

    def spread(alpha: float) -> float:
        sites = Dirichlet(alpha=alpha).split(labels, 6, 5, np.random.default_rng(0))
        counts = class_counts(sites, labels, "train", 5)
        return float((counts / counts.sum(axis=0)).std())

    assert spread(1e5) < 0.01
    assert spread(0.05) > 0.25
    assert spread(1e5) < spread(10) < spread(1) < spread(0.05)


def test_validation_looks_like_training() -> None:
    labels = draw_labels(7, {"train": 4000, "validation": 2000, "test": 300}, 4)
    sites = Dirichlet(alpha=0.2).split(labels, 5, 4, np.random.default_rng(1))
    train = class_counts(sites, labels, "train", 4)
    shares = train / train.sum(axis=0)
    for split in ("validation", "test"):
        counts = class_counts(sites, labels, split, 4)
        assert np.abs(counts - shares * counts.sum(axis=0)).max() <= 2
        assert (counts[train == 0] == 0).all(), "a class that the site was never trained on"


def test_examples_given_to_small_sites_count_into_their_validation() -> None:
    labels = {"train": np.zeros(1000, dtype=np.int64), "validation": np.zeros(500, dtype=np.int64)}
    partition = Quantity(alpha=0.05, min_examples=100)
    sites = partition.split(labels, 4, 1, np.random.default_rng(0))
    assert sorted(len(site["train"]) for site in sites)[:2] == [100, 100]
    assert min(len(site["validation"]) for site in sites) >= 49


def test_the_order_of_the_source_does_not_reach_the_sites() -> None:
    labels = {"train": np.repeat(np.arange(2), 500)}
    sites = Iid().split(labels, 4, 2, np.random.default_rng(0))
    for site in sites:
        of_class_0 = site["train"][site["train"] < 500]
        assert of_class_0.min() < 50
        assert of_class_0.max() >= 450
        assert abs(of_class_0.mean() - 249.5) < 60


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dirichlet(alpha=0),
        lambda: Dirichlet(alpha=float("nan")),
        lambda: Dirichlet(alpha=float("inf")),
        lambda: Quantity(alpha=-1),
        lambda: Iid(min_examples=0),
        lambda: Iid.model_validate({"alpha": 1}),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


def test_too_few_examples_are_counted_in_the_error() -> None:
    labels = {"train": np.zeros(39, dtype=np.int64)}
    with pytest.raises(DataError, match="5 sites of at least 8 examples each need 40, but train"):
        Iid().split(labels, 5, 1, np.random.default_rng(0))


def test_kinds() -> None:
    assert [kind_of(part) for part in BUILTIN] == ["iid", "dirichlet", "quantity"]
