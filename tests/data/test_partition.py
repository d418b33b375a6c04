"""Partitions: nothing lost, nothing twice, the minimum met, and the statistics as published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from fedsim.data.apportioning import apportion, fill
from fedsim.data.partition import (
    BUILTIN,
    FETS2022,
    LARGEST_ALPHA,
    ByColumn,
    Dirichlet,
    Iid,
    Partition,
    Quantity,
    Shards,
    Sizes,
)
from fedsim.data.source import Facts
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
    part = draw(st.sampled_from([Iid, Dirichlet, Quantity]))
    alpha = {} if part is Iid else {"alpha": draw(alphas)}
    return part(min_examples=least, **alpha)


@st.composite
def given_sizes(draw: Any) -> Any:
    sizes = draw(st.lists(st.floats(0.1, 1000), min_size=1, max_size=12))
    alpha = draw(st.none() | st.floats(0.01, 100))
    return Sizes(sizes=tuple(sizes), alpha=alpha, min_examples=draw(st.integers(1, 12)))


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
    shares = np.array(
        [Dirichlet(alpha=alpha).proportions(num_sites, np.ones(3, int), rng) for _ in range(4000)]
    )
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
    sizes = np.array([Quantity(alpha=2).proportions(4, np.ones(3, int), rng) for _ in range(4000)])
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
    assert [kind_of(part) for part in BUILTIN] == [
        "iid",
        "dirichlet",
        "quantity",
        "sizes",
        "shards",
        "by_column",
    ]


@settings(deadline=None)
@given(
    partition=given_sizes(),
    seed=st.integers(0, 2**32),
    num_classes=st.integers(1, 6),
    num_examples=st.integers(150, 400),
)
def test_given_sizes_lose_nothing_and_meet_the_minimum(
    partition: Sizes, seed: int, num_classes: int, num_examples: int
) -> None:
    labels = draw_labels(seed, {"train": num_examples, "test": 50}, num_classes)
    num_sites = len(partition.numbers)
    sites = partition.split(labels, num_sites, num_classes, np.random.default_rng(seed))
    for name in labels:
        everything = np.sort(np.concatenate([site[name] for site in sites]))
        np.testing.assert_array_equal(everything, np.arange(len(labels[name])))
    assert min(len(site["train"]) for site in sites) >= partition.min_examples


def test_the_fets_preset_has_its_published_sizes() -> None:
    assert (len(FETS2022), sum(FETS2022)) == (23, 1251)
    labels = draw_labels(0, {"train": 12510}, 2)
    sites = Sizes(sizes="fets2022").split(labels, 23, 2, np.random.default_rng(0))
    np.testing.assert_allclose(
        [len(site["train"]) for site in sites], 10 * np.array(FETS2022), atol=2
    )


@pytest.mark.parametrize("alpha", [0.2, 1.0, 50.0])
def test_sizes_hold_whatever_the_class_mixes(alpha: float) -> None:
    labels = draw_labels(5, {"train": 9000}, 4)
    wanted = np.array([4000, 2000, 1500, 1000, 500])
    partition = Sizes(sizes=tuple(wanted.tolist()), alpha=alpha)
    sites = partition.split(labels, 5, 4, np.random.default_rng(1))
    np.testing.assert_allclose([len(site["train"]) for site in sites], wanted, rtol=0.02, atol=8)


def test_small_alpha_makes_mixes_differ() -> None:
    labels = {"train": np.arange(4000) % 4}

    def spread(alpha: float) -> float:
        partition = Sizes(sizes=(1.0,) * 8, alpha=alpha)
        sites = partition.split(labels, 8, 4, np.random.default_rng(0))
        return float(class_counts(sites, labels, "train", 4).std())

    assert spread(0.1) > 2 * spread(10)


@given(
    seed=st.integers(0, 2**32),
    num_sites=st.integers(1, 15),
    num_classes=st.integers(1, 8),
    k=st.integers(1, 8),
)
def test_shards_give_every_site_so_many_classes(
    seed: int, num_sites: int, num_classes: int, k: int
) -> None:
    labels = {"train": np.arange(num_classes * 200) % num_classes}
    partition, rng = Shards(classes_per_site=k), np.random.default_rng(seed)
    if not num_classes <= num_sites * k <= num_sites * num_classes:
        with pytest.raises(DataError, match="classes_per_site"):
            partition.split(labels, num_sites, num_classes, rng)
        return
    held = class_counts(
        partition.split(labels, num_sites, num_classes, rng), labels, "train", num_classes
    )
    assert ((held > 0).sum(axis=1) == k).all()
    holders = (held > 0).sum(axis=0)
    assert holders.max() - holders.min() <= 1
    for label in range(num_classes):
        shards = held[held[:, label] > 0, label]
        assert shards.max() - shards.min() <= 1


def facts_with(columns: dict[str, tuple[str, ...]]) -> Facts:
    return Facts(1, 8, ("a", "b"), False, {"train": 6, "test": 3}, "", columns=columns)


def test_a_column_decides_names_and_members() -> None:
    labels = {"train": np.zeros(6, np.int64), "test": np.zeros(3, np.int64)}
    scanner = {
        "train": np.array(["MR 10", "MR 2", "CT", "MR 2", "CT", "MR 10"]),
        "test": np.array(["CT", "CT", "MR 2"]),
    }
    partition = ByColumn(column="scanner")
    names = partition.site_names(facts_with({"scanner": ("CT", "MR 2", "MR 10")}))
    assert names == ("CT", "MR 2", "MR 10")
    sites = partition.split(labels, 3, 2, np.random.default_rng(0), {"scanner": scanner})
    assert [site["train"].tolist() for site in sites] == [[2, 4], [1, 3], [0, 5]]
    assert [site["test"].tolist() for site in sites] == [[0, 1], [2], []]


def test_a_column_that_is_not_there_or_not_filled_in_is_refused() -> None:
    with pytest.raises(DataError, match="do not say the 'site' of an image; they have scanner"):
        ByColumn().site_names(facts_with({"scanner": ("CT",)}))
    with pytest.raises(DataError, match="some images have no 'site'"):
        ByColumn().site_names(facts_with({"site": ("", "CT")}))
    labels = {"train": np.zeros(2, np.int64)}
    with pytest.raises(DataError, match="fewer than 2 examples of train at A, B"):
        ByColumn(min_examples=2).split(
            labels, 2, 1, np.random.default_rng(0), {"site": {"train": np.array(["A", "B"])}}
        )


def test_only_some_rules_name_their_sites() -> None:
    facts = facts_with({})
    assert Iid().site_names(facts) is None
    names = Sizes(sizes=(3, 2, 1)).site_names(facts)
    assert names is not None
    assert list(names) == ["site-00", "site-01", "site-02"]
