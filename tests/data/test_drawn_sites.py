"""Drawn sites: theirs alone by their own stream, from the pool alone, and nothing before."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsim.data import drawn_sites
from fedsim.data.normalisation import Unit
from fedsim.data.population import SERVER, Population
from fedsim.data.resampled import Resampled
from fedsim.data.scanner import Scanner
from fedsim.data.site_names import NumberedSites
from fedsim.data.source import SPLITS, Dataset
from fedsim.errors import DataError
from fedsim.seeds import Streams

MILLION = 1_000_000


def fake(sizes: dict[str, int], images_per_patient: int = 1) -> Dataset:
    """Return a data set whose images spell their index, maybe of patients with several images."""
    rng = np.random.default_rng(0)

    def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        made = np.zeros((len(indices), 1, 4, 4), np.uint8)
        made[:, :, 0] = (indices // 256)[:, None, None]
        made[:, :, 1:] = (indices % 256)[:, None, None, None]
        return made

    whose = {
        s: np.char.add(s, (np.arange(n) // images_per_patient).astype(str))
        for s, n in sizes.items()
    }
    columns = {"patient": whose} if images_per_patient > 1 else {}
    labels = {split: rng.integers(3, size=n) for split, n in sizes.items()}
    return Dataset(labels, images, {"fake": "1"}, columns)


def formed(num_sites: int = MILLION, dataset: Dataset | None = None, **changes: Any) -> Population:
    options: dict[str, Any] = {
        "class_names": ("a", "b", "c"),
        "label_map": None,
        "names": NumberedSites(num_sites),
        "rule": Resampled(examples_per_site=(5, 9), alpha=1.0),
        "shares": {"validation": 0.2, "test": 0.3},
        "normalisation": Unit(),
        "streams": Streams(7),
    }
    return drawn_sites.form(dataset or fake({"all": 400}), **{**options, **changes})


def test_sites_draw_from_the_pool_and_the_server_holds_the_rest() -> None:
    population = formed(200)
    assert population.server is not None
    pool = set(population.server["train"].tolist())
    held_out = [*population.server["validation"].tolist(), *population.server["test"].tolist()]
    assert sorted([*pool, *held_out]) == list(range(400))
    assert (len(population.server["validation"]), len(population.server["test"])) == (80, 120)
    used: set[int] = set()
    for held in population.indices:
        assert 5 <= len(held["train"]) <= 9
        assert np.all(np.diff(held["train"]) > 0)
        assert len(held["validation"]) == len(held["test"]) == 0
        used |= set(held["train"].tolist())
    assert used == pool  # 200 sites of 5 to 9 leave none of 200 out; none is held out


def test_official_splits_stay_where_they_are() -> None:
    dataset = fake({"train": 100, "validation": 20, "test": 30})
    population = formed(10, dataset, shares={})
    (row,) = population.table()
    assert row["name"] == "server"
    for split in SPLITS:
        assert row[split] == np.bincount(dataset.labels[split], minlength=3).tolist()
    assert all(held["train"].max() < 100 for held in population.indices)


def test_a_site_is_the_same_whoever_else_is_there_and_whenever_it_is_looked_at() -> None:
    few, many = formed(100), formed(MILLION)
    first = [few.indices[site]["train"].tolist() for site in (0, 42, 99)]
    assert [many.indices[site]["train"].tolist() for site in (99, 42, 0)] == first[::-1]
    assert [few.indices[site]["train"].tolist() for site in (0, 42, 99)] == first
    assert len({tuple(f) for f in first}) == 3
    other = formed(100, streams=Streams(8))
    assert [other.indices[site]["train"].tolist() for site in (0, 42, 99)] != first
    with pytest.raises(IndexError):
        few.indices[100]


def test_only_sites_that_are_looked_at_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    draw = Resampled.draw

    def counted(self: Resampled, *args: Any) -> NDArray[np.int64]:
        asked.append(1)
        return draw(self, *args)

    monkeypatch.setattr(Resampled, "draw", counted)
    population = formed()
    population.table()
    population.examples(SERVER, "test")
    assert (len(population), len(asked)) == (MILLION, 0)
    population.examples(123_456, "train")
    assert len(asked) == 1
    assert len(population.sizes()) == 1000
    assert len(asked) == 1001


def test_examples_are_those_that_the_indices_say_with_their_labels() -> None:
    dataset = fake({"all": 400})
    population = formed(dataset=dataset)
    for holder, split in ((77, "train"), (SERVER, "test"), (SERVER, "train")):
        found = population.examples(holder, split)  # type: ignore[arg-type]
        spelt = np.rint(found.images[:, 0, ::3, 0] * 255).astype(int) @ [256, 1]
        assert spelt.tolist() == population.held(holder)[split].tolist()  # type: ignore[index]
        assert found.labels.tolist() == dataset.labels["all"][spelt].tolist()
    assert population.class_counts(77, "train").sum() == len(population.indices[77]["train"])
    assert population.examples(77, "test").images.shape == (0, 1, 4, 4)


def test_memory_does_not_grow_with_the_sites_that_were_looked_at() -> None:
    population = formed()

    def look(sites: range) -> None:
        for site in sites:
            population.examples(site, "train")

    population.examples(SERVER, "test")
    look(range(100))
    tracemalloc.start()
    try:
        look(range(100, 200))
        first, _ = tracemalloc.get_traced_memory()
        look(range(200, 2200))
        last, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last - first < 20_000  # bytes; those of 2000 sites take a million


def test_the_examples_of_the_server_are_made_once() -> None:
    population = formed()
    assert population.examples(SERVER, "test") is population.examples(SERVER, "test")
    assert population.examples(3, "train") is not population.examples(3, "train")


def test_patients_stay_whole_and_in_one_place() -> None:
    population = formed(300, fake({"all": 400}, images_per_patient=4))
    assert population.server is not None
    whose = population.columns["patient"]
    splits = {s: set(whose[at].tolist()) for s, at in population.server.items()}
    assert not splits["train"] & (splits["validation"] | splits["test"])
    assert not splits["validation"] & splits["test"]
    for held in population.indices:
        mine = held["train"]
        patients = set(whose[mine].tolist())
        assert 5 <= len(patients) <= 9
        assert len(mine) == 4 * len(patients)
    found = population.patients(SERVER, "test")
    assert found is not None
    assert set(found.tolist()) == splits["test"]


def test_a_site_has_its_scanner_and_the_server_those_of_the_sites() -> None:
    scanner, streams = Scanner(severity="severe"), Streams(7)
    plain, shifted = formed(30), formed(30, appearance=scanner)
    for site in (0, 29):
        positions = plain.indices[site]["train"]
        raw = plain.shown(site, positions)
        expected = scanner.apply(raw, site, plain.names[site], positions, streams)
        np.testing.assert_array_equal(shifted.shown(site, positions), expected)
    assert shifted.server is not None
    positions = shifted.server["test"][:40]
    found = shifted.shown(SERVER, positions)
    for place, position in enumerate(positions.tolist()):
        site, alone = position % 30, positions[place : place + 1]
        raw = plain.shown(SERVER, alone)
        expected = scanner.apply(raw, site, plain.names[site], alone, streams)
        np.testing.assert_array_equal(found[place : place + 1], expected)


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(DataError, match="may draw 60 examples, but the pool has 50"):
        formed(3, fake({"all": 400}, images_per_patient=4), rule=Resampled(examples_per_site=60))
    formed(3, fake({"all": 400}, images_per_patient=4), rule=Resampled(examples_per_site=50))
