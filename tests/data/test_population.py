"""Every example at one site and in one split, shares as asked, and the right images behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from fedsim.data.divided_sites import form, hold_out, systematic
from fedsim.data.label_noise import Symmetric
from fedsim.data.normalisation import PerImage, Unit
from fedsim.data.partition import ByColumn, Dirichlet, Iid, Partition, Quantity
from fedsim.data.population import Population
from fedsim.data.scanner import Scanner
from fedsim.data.site_names import NumberedSites
from fedsim.data.source import SPLITS, Dataset, Split
from fedsim.errors import DataError
from fedsim.seeds import Streams

HELD_OUT: dict[Split, float] = {"validation": 0.15, "test": 0.2}
CODE = {"all": 0, "train": 60, "validation": 120, "test": 180}
PARTITIONS: tuple[Partition, ...] = (
    Iid(min_examples=1),
    Dirichlet(alpha=0.3, min_examples=1),
    Quantity(alpha=1.0, min_examples=1),
)


def fake(sizes: dict[str, int], num_classes: int = 3, seed: int = 0) -> Dataset:
    """Return a data set whose images spell their split and index."""
    rng = np.random.default_rng(seed)
    prevalence = rng.dirichlet(np.ones(num_classes))
    labels = {split: rng.choice(num_classes, n, p=prevalence) for split, n in sizes.items()}

    def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert indices.dtype == np.int64
        assert np.all((indices >= 0) & (indices < sizes[split]))
        made = np.empty((len(indices), 1, 4, 4), np.uint8)
        made[:, :, 0], made[:, :, 1] = CODE[split], (indices // 256)[:, None, None]
        made[:, :, 2:] = (indices % 256)[:, None, None, None]
        return made

    return Dataset(labels, images, {"fake": "1"})


def decoded(images: NDArray[np.float32]) -> list[tuple[str, int]]:
    """Return which split and index images spell."""
    numbers = np.rint(images[:, 0, :, 0] * 255).astype(int)
    names = {code: name for name, code in CODE.items()}
    return [(names[code], 256 * high + low) for code, high, low in numbers[:, :3].tolist()]


def formed(
    dataset: Dataset, num_sites: int = 4, num_classes: int = 3, **changes: Any
) -> Population:
    options: dict[str, Any] = {
        "class_names": tuple(f"class {c}" for c in range(num_classes)),
        "label_map": None,
        "names": NumberedSites(num_sites),
        "partition": Iid(),
        "shares": HELD_OUT,
        "normalisation": Unit(),
        "streams": Streams(7),
    }
    return form(dataset, **{**options, **changes})


@st.composite
def populations(draw: Any) -> tuple[Dataset, Population, bool]:
    """Return a source, a population of it, and whether its own splits were kept."""
    own = draw(st.booleans())
    sizes = (
        {
            "train": draw(st.integers(12, 90)),
            "validation": draw(st.integers(0, 40)),
            "test": draw(st.integers(0, 40)),
        }
        if own
        else {"all": draw(st.integers(12, 300))}
    )
    dataset = fake(sizes, draw(st.integers(2, 5)), draw(st.integers(0, 99)))
    kept = own and draw(st.booleans())
    shares = {
        "validation": draw(st.floats(0.01, 0.49)),
        "test": draw(st.floats(0.01, 0.49)),
    }
    population = formed(
        dataset,
        num_sites=draw(st.integers(1, 12)),
        num_classes=5,
        partition=draw(st.sampled_from(PARTITIONS)),
        shares={} if kept else shares,
        streams=Streams(draw(st.integers(0, 999))),
    )
    return dataset, population, kept


@settings(deadline=None)
@given(populations())
def test_every_example_once_with_its_own_image_and_label(
    drawn: tuple[Dataset, Population, bool],
) -> None:
    dataset, population, kept = drawn
    seen: list[tuple[str, int]] = []
    for site in range(len(population)):
        for split in SPLITS:
            examples = population.examples(site, split)
            assert examples.images.dtype == np.float32
            assert examples.labels.dtype == np.int64
            origins = decoded(examples.images)
            assert examples.labels.tolist() == [dataset.labels[pool][i] for pool, i in origins]
            assert np.all(np.diff(population.indices[site][split]) > 0)
            if kept:
                assert {pool for pool, _ in origins} <= {split}
            seen += origins
    whole = [(pool, i) for pool, labels in dataset.labels.items() for i in range(len(labels))]
    assert sorted(seen) == sorted(whole)


@settings(deadline=None)
@given(populations())
def test_the_table_counts_what_is_there(drawn: tuple[Dataset, Population, bool]) -> None:
    _, population, _ = drawn
    table = population.table()
    assert [row["name"] for row in table] == list(population.names)
    for site, row in enumerate(table):
        assert list(row) == ["name", *SPLITS]
        for split in SPLITS:
            labels = population.examples(site, split).labels
            assert row[split] == np.bincount(labels, minlength=5).tolist()


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 200),
    num_classes=st.integers(1, 6),
    validation=st.floats(0.01, 0.49),
    test=st.floats(0.01, 0.49),
)
def test_held_out_shares_hold_per_class_to_within_one(
    seed: int, n: int, num_classes: int, validation: float, test: float
) -> None:
    rng = np.random.default_rng(seed)
    pooled = rng.integers(num_classes, size=3 * n)
    positions = np.sort(rng.choice(3 * n, n, replace=False))
    parts = hold_out(positions, pooled, {"validation": validation, "test": test}, rng)
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), positions)
    totals = np.bincount(pooled[positions], minlength=num_classes)
    for total, count in [
        (n, len),
        *[
            (totals[c], lambda part, c=c: int((pooled[part] == c).sum()))
            for c in range(num_classes)
        ],
    ]:
        assert abs(count(parts["test"]) - test * total) < 1 + 1e-6
        rest = total - count(parts["test"])
        assert abs(count(parts["validation"]) - validation / (1 - test) * rest) < 1 + 1e-6
        slack = validation / (1 - test)  # what an example more or less in the test split moves
        assert abs(count(parts["validation"]) - validation * total) < 1 + slack + 1e-6


def test_own_splits_are_pooled_when_shares_are_asked_for() -> None:
    population = formed(fake({"train": 200, "validation": 100, "test": 100}), num_sites=2)
    assert [len(p["validation"]) + len(p["test"]) for p in population.indices] == [70, 70]
    origins = {pool for pool, _ in decoded(population.examples(0, "test").images)}
    assert origins == set(SPLITS)


def test_splits_in_another_order_are_not_mixed_up() -> None:
    population = formed(fake({"test": 30, "train": 90, "validation": 40}), shares={})
    for site in range(4):
        for split in SPLITS:
            origins = decoded(population.examples(site, split).images)
            assert {pool for pool, _ in origins} == {split}


def test_labels_are_mapped_before_sites_are_formed() -> None:
    dataset = fake({"all": 400}, num_classes=4)
    mapping = {3: 0, 0: 1, 1: 1, 2: 0}
    population = formed(
        dataset, num_sites=3, num_classes=2, label_map=mapping, partition=Iid(min_examples=1)
    )
    for site in range(3):
        for split in SPLITS:
            examples = population.examples(site, split)
            before = [dataset.labels["all"][i] for _, i in decoded(examples.images)]
            assert examples.labels.tolist() == [mapping[c] for c in before]
    counts = np.array(
        [[sum(row[s][c] for s in SPLITS) for c in (0, 1)] for row in population.table()]
    )
    assert np.ptp(counts, axis=0).max() <= 1  # of the task's classes, not of the source's


def test_a_site_is_one_scanner_and_an_image_always_itself() -> None:
    scanner, streams = Scanner(severity="severe"), Streams(7)
    plain = formed(fake({"all": 200}))
    population = formed(fake({"all": 200}), appearance=scanner)
    names = population.names
    assert population.looks == {n: scanner.describe(s, n, streams) for s, n in enumerate(names)}
    assert plain.looks == {}
    for site in range(4):
        for split in SPLITS:
            positions = population.indices[site][split]
            raw = np.rint(plain.examples(site, split).images * 255).astype(np.uint8)
            expected = Unit().apply(scanner.apply(raw, site, names[site], positions, streams))
            np.testing.assert_array_equal(population.examples(site, split).images, expected)
            alone = population.make_images(site, positions[1:2])
            np.testing.assert_array_equal(alone, expected[1:2])
    positions = population.indices[0]["train"]
    here, there = (population.make_images(site, positions) for site in (0, 1))
    assert np.abs(here - there).max() > 0.02


def test_normalisation_comes_last() -> None:
    population = formed(
        fake({"all": 200}), appearance=Scanner(severity="severe"), normalisation=PerImage()
    )
    images = population.examples(2, "test").images
    np.testing.assert_allclose(images.mean(axis=(2, 3)), 0, atol=1e-6)


def test_formed_twice_is_the_same_and_of_another_seed_is_not() -> None:
    def indices(seed: int) -> list[list[int]]:
        population = formed(fake({"all": 300}), streams=Streams(seed))
        return [part[split].tolist() for part in population.indices for split in SPLITS]

    assert indices(7) == indices(7)
    assert indices(7) != indices(8)


def test_every_site_holds_out_by_a_stream_of_its_own() -> None:
    population = formed(fake({"all": 300}))
    for site, part in enumerate(population.indices):
        positions = np.sort(np.concatenate([part[split] for split in SPLITS]))
        rng = Streams(7).numpy("held_out", site=site)
        expected = hold_out(positions, population.labels, HELD_OUT, rng)
        assert all(np.array_equal(part[split], expected[split]) for split in SPLITS)


def test_no_appearance_or_normalisation_moves_an_example() -> None:
    plain = formed(fake({"all": 300}))
    other = formed(fake({"all": 300}), appearance=Scanner(), normalisation=PerImage())
    for one, two in zip(plain.indices, other.indices, strict=True):
        assert all(np.array_equal(one[split], two[split]) for split in SPLITS)


def test_examples_are_made_once_and_only_where_needed() -> None:
    dataset, asked = fake({"all": 200}), []

    def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        asked.append(len(indices))
        return dataset.images(split, indices)

    population = formed(Dataset(dataset.labels, images))
    population.table()
    assert asked == []
    first = population.examples(1, "test")
    assert population.examples(1, "test") is first
    assert asked == [len(population.indices[1]["test"])]


@pytest.mark.parametrize(
    ("num_sites", "first", "last"),
    [(1, "site-00", "site-00"), (100, "site-00", "site-99"), (101, "site-000", "site-100")],
)
def test_names_sort_as_sites_do(num_sites: int, first: str, last: str) -> None:
    population = formed(fake({"all": 500}), num_sites=num_sites, partition=Iid(min_examples=1))
    assert list(population.names) == sorted(set(population.names))
    assert (population.names[0], population.names[-1]) == (first, last)
    assert len(population) == num_sites


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(DataError, match="4 sites of at least 8 examples"):
        formed(fake({"all": 31}))


def test_an_empty_split_has_images_of_no_example() -> None:
    population = formed(fake({"train": 60, "validation": 0, "test": 5}), shares={})
    examples = population.examples(0, "validation")
    assert examples.images.shape == (0, 1, 4, 4)
    assert examples.images.dtype == np.float32
    assert examples.labels.shape == (0,)


def with_patients(seed: int, num: int, num_classes: int = 3) -> Dataset:
    """Return a data set of patients with one to six images, and the hospital of each."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(num), rng.integers(1, 7, num))
    home = rng.integers(0, 3, num)
    order = rng.permutation(len(whose))
    dataset = fake({"all": len(whose)}, num_classes, seed)
    columns = {
        "patient": {"all": np.char.add("p", whose[order].astype(str))},
        "site": {"all": np.array(["A", "B", "C"])[home[whose[order]]]},
    }
    return Dataset(dataset.labels, dataset.images, columns=columns)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    partition=st.sampled_from([*PARTITIONS, ByColumn()]),
    validation=st.floats(0.05, 0.45),
)
def test_no_patient_is_in_two_places(seed: int, partition: Partition, validation: float) -> None:
    dataset = with_patients(seed, 40)
    names = ("A", "B", "C")
    population = formed(
        dataset, names=names, partition=partition, shares={"validation": validation, "test": 0.2}
    )
    whose = dataset.columns["patient"]["all"]
    places: dict[str, set[tuple[int, str]]] = {}
    seen: list[int] = []
    for site in range(3):
        for split in SPLITS:
            positions = population.indices[site][split]
            seen += positions.tolist()
            np.testing.assert_array_equal(population.patients(site, split), whose[positions])
            for patient in whose[positions]:
                places.setdefault(patient, set()).add((site, split))
            if isinstance(partition, ByColumn):
                assert set(dataset.columns["site"]["all"][positions]) <= {names[site]}
    assert sorted(seen) == list(range(len(whose)))
    assert all(len(where) == 1 for where in places.values())


def test_images_of_a_patient_are_one_unit_whatever_the_seed() -> None:
    dataset = with_patients(4, 40)
    numbers: dict[str, set[int]] = {}
    for seed in (0, 1, 2):
        population = formed(dataset, num_sites=3, streams=Streams(seed))
        kind, units = population.units("test")
        assert kind == "patient"
        for site, found in enumerate(units.values()):
            whose = population.patients(site, "test")
            assert whose is not None
            for patient, number in zip(whose.tolist(), found.tolist(), strict=True):
                numbers.setdefault(patient, set()).add(number)
    assert all(len(found) == 1 for found in numbers.values())
    assert len(set.union(*numbers.values())) == len(numbers) > 10


def test_without_patients_every_image_is_a_unit_of_its_own() -> None:
    population = formed(fake({"all": 60}), num_sites=2)
    kind, units = population.units("test")
    assert kind == "image"
    for site, name in enumerate(population.names):
        np.testing.assert_array_equal(units[name], population.indices[site]["test"])


def test_columns_of_few_values_divide_the_images_and_patients_do_not() -> None:
    dataset = with_patients(4, 40)
    many = {"all": np.arange(len(dataset.labels["all"])).astype(str)}
    alike = {"all": np.full(len(dataset.labels["all"]), "same")}
    columns = {**dataset.columns, "number": many, "vendor": alike}
    population = formed(Dataset(dataset.labels, dataset.images, columns=columns), num_sites=3)
    found = population.attributes("test")
    assert set(found) == {"site"}
    for site, name in enumerate(population.names):
        positions = population.indices[site]["test"]
        assert found["site"][name] == columns["site"]["all"][positions].tolist()


def test_patients_in_two_official_splits_are_refused() -> None:
    dataset = fake({"train": 40, "validation": 10, "test": 10})
    patients = {s: np.char.add(s, np.arange(len(v)).astype(str)) for s, v in dataset.labels.items()}
    good = Dataset(dataset.labels, dataset.images, columns={"patient": patients})
    assert len(formed(good, shares={})) == 4
    patients["test"][0] = "train7"
    with pytest.raises(DataError, match=r"train7 \(train and test\)"):
        formed(good, shares={})


def test_a_patient_at_two_named_sites_is_refused() -> None:
    dataset = with_patients(1, 20)
    dataset.columns["site"]["all"][0] = "elsewhere"
    with pytest.raises(DataError, match="more than one site"):
        formed(dataset, names=("A", "B", "C", "elsewhere"), partition=ByColumn())


def test_the_test_split_alone_can_be_the_publishers() -> None:
    dataset = fake({"train": 90, "test": 30})
    population = formed(dataset, shares={"validation": 0.2})
    for site in range(4):
        where = {s: {p for p, _ in decoded(population.examples(site, s).images)} for s in SPLITS}
        assert where == {"train": {"train"}, "validation": {"train"}, "test": {"test"}}
    assert sum(len(part["validation"]) for part in population.indices) == pytest.approx(18, abs=4)


def test_a_site_held_out_takes_nothing_from_the_others() -> None:
    scanner = Scanner(severity="severe")
    whole = formed(fake({"all": 240}), appearance=scanner)
    less = formed(fake({"all": 240}), appearance=scanner, held_out_sites=["site-01"])
    assert less.names == ("site-00", "site-02", "site-03")
    for site, before in enumerate((0, 2, 3)):
        for split in SPLITS:
            np.testing.assert_array_equal(less.indices[site][split], whole.indices[before][split])
            np.testing.assert_array_equal(
                less.examples(site, split).images, whole.examples(before, split).images
            )
    (apart,) = less.external
    everything = np.sort(np.concatenate([whole.indices[1][s] for s in SPLITS]))
    np.testing.assert_array_equal(apart.examples().images, whole.make_images(1, everything))
    np.testing.assert_array_equal(apart.labels, whole.labels[everything])
    assert less.external_table() == [
        {"name": "site-01", "test": np.bincount(apart.labels, minlength=3).tolist()}
    ]


def test_label_noise_is_for_training_labels_of_the_named_sites() -> None:
    clean = formed(fake({"all": 400}))
    noise = Symmetric(rate=0.5, sites=("site-01",))
    noisy = formed(fake({"all": 400}), label_noise=(noise,))
    for site in range(4):
        for split in SPLITS:
            changed = (
                clean.examples(site, split).labels != noisy.examples(site, split).labels
            ).sum()
            assert (changed > 0) == ((site, split) == (1, "train"))
            if changed:
                assert noisy.num_mislabelled == {"site-01": changed}
    held_out = formed(fake({"all": 400}), label_noise=(noise,), held_out_sites=["site-01"])
    np.testing.assert_array_equal(held_out.labels, clean.labels)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=150), st.floats(0, 1), st.integers(0, 2**32))
def test_a_systematic_draw_has_its_share_of_every_class(
    labels: list[int], share: float, seed: int
) -> None:
    pooled = np.array(labels, np.int64)
    chosen = systematic(pooled, share, np.random.default_rng(seed))
    assert np.all(np.diff(chosen) > 0)
    assert np.all((chosen >= 0) & (chosen < len(pooled)))
    assert abs(len(chosen) - share * len(pooled)) < 1 + 1e-6
    for label in range(5):
        members = int((pooled == label).sum())
        assert abs(int((pooled[chosen] == label).sum()) - share * members) < 1 + 1e-6


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (1.0, 50), (0.5, 25)])
def test_whole_shares_are_exact(share: float, num: int) -> None:
    labels = np.repeat([0, 1], [20, 30])
    for seed in range(200):
        chosen = systematic(labels, share, np.random.default_rng(seed))
        assert len(chosen) == num
        assert (labels[chosen] == 0).sum() == 0.4 * num


def test_every_example_is_as_likely_as_the_share() -> None:
    labels = np.repeat([0, 1, 2], [1, 6, 4])
    num_draws, share = 20_000, 0.23
    rng = np.random.default_rng(0)
    hits, pairs = np.zeros(11), 0
    for _ in range(num_draws):
        chosen = systematic(labels, share, rng)
        hits[chosen] += 1
        pairs += np.isin([1, 2], chosen).all()
    # Eleven tests: a level of 0.001 each is missed once in ninety runs of other seeds.
    assert min(binomtest(int(k), num_draws, share).pvalue for k in hits) > 0.001
    assert min(binomtest(int(k), num_draws, share + 0.02).pvalue for k in hits) < 0.001
    # Two of class 1 together: 6 * 0.23 = 1.38 are drawn, two of them with probability 0.38.
    assert binomtest(pairs, num_draws, 0.38 / 15).pvalue > 0.001
