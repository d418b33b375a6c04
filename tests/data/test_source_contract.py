"""What holds for every data source: facts that are true, and images that do not depend on order."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fedsim.data.images import Images
from fedsim.data.medmnist import MedMnist
from fedsim.data.npz import Npz
from fedsim.data.source import SPLITS, Dataset, Source, in_natural_order
from fedsim.data.sources import BUILTIN
from fedsim.data.synthetic import Synthetic
from fedsim.plugins import kind_of
from fedsim.seeds import Streams

WRITTEN = Path(tempfile.mkdtemp(prefix="fedsim-sources-"))
atexit.register(shutil.rmtree, WRITTEN, ignore_errors=True)
CASES: dict[str, Source] = {
    "synthetic-fundus": Synthetic(anatomy="fundus", image_size=16, num_examples=60),
    "synthetic-chest": Synthetic(anatomy="chest", image_size=24, num_examples=40),
    "pneumoniamnist": MedMnist(name="pneumoniamnist"),
    "retinamnist": MedMnist(name="retinamnist"),
    "npz": Npz(path=WRITTEN / "study.npz", images="x", labels="y", licence="mine"),
    "npz-splits": Npz(
        path=WRITTEN / "study.npz",
        images="x",
        labels="y",
        columns={"site": "where"},
        targets={"bmi": "z"},
        splits="fold",
        licence="mine",
    ),
    "images": Images(
        path=WRITTEN / "manifest.csv", image_size=20, targets=("bmi",), licence="mine"
    ),
    "images-folder": Images(path=WRITTEN / "folder", image_size=16, licence="mine"),
}


def write_files() -> None:
    """Write the files that four of the sources read."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 20, 20), np.uint8), rng.permutation(60) % 3
    sites, folds = np.array(["A 10", "A 9"]).repeat(30), np.array(SPLITS)[np.arange(60) % 3]
    WRITTEN.mkdir(exist_ok=True)
    numbers = rng.normal(size=60)
    np.savez(WRITTEN / "study.npz", x=images, y=labels, z=numbers, where=sites, fold=folds)
    lines = ["path,label,site,bmi"]
    for number, image in enumerate(images):
        label, site, fold = f"class {labels[number]}", sites[number], folds[number]
        inside = WRITTEN / "folder" / site / fold / label
        inside.mkdir(parents=True, exist_ok=True)
        for path in (WRITTEN / f"{number}.png", inside / f"{number}.png"):
            Image.fromarray(image).save(path)
        lines.append(f"{number}.png,{label},{site},{numbers[number]}")
    (WRITTEN / "manifest.csv").write_text("\n".join(lines))


class Opened(NamedTuple):
    """A source and its data."""

    source: Source
    data: Dataset


@pytest.fixture(scope="module", params=CASES)
def opened(request: pytest.FixtureRequest) -> Opened:
    source = CASES[request.param]
    if isinstance(source, MedMnist):
        request.getfixturevalue("data_folder")
    write_files()
    return Opened(source, source.open(Streams(3)))


def test_every_source_is_tested() -> None:
    assert {kind_of(part) for part in BUILTIN} == {source.kind for source in CASES.values()}


def some(labels: NDArray[np.int64], num: int = 9) -> NDArray[np.int64]:
    """Return a few positions out of order, one of them twice."""
    chosen = np.random.default_rng(0).choice(len(labels), num, replace=False)
    return np.append(chosen, chosen[:1])


def test_facts_are_those_of_the_data(opened: Opened) -> None:
    facts, data = opened.source.facts(), opened.data
    assert {split: len(labels) for split, labels in data.labels.items()} == dict(facts.num_examples)
    assert tuple(data.labels) == (SPLITS if facts.has_official_splits else ("all",))
    assert len(set(facts.class_names)) == len(facts.class_names) >= 2
    every = np.concatenate(list(data.labels.values()))
    assert set(every) == set(range(len(facts.class_names)))
    assert facts.licence
    assert opened.source.is_local()


def test_targets_are_those_that_the_facts_name(opened: Opened) -> None:
    facts, data = opened.source.facts(), opened.data
    assert set(data.targets) == set(facts.targets)
    for name, numbers_of in data.targets.items():
        by_split = numbers_of()
        assert set(by_split) == set(data.labels)
        for split, numbers in by_split.items():
            assert numbers.dtype == np.float32
            assert numbers.shape == data.labels[split].shape
            assert np.isfinite(numbers).all()
            again = opened.source.open(Streams(3)).targets[name]()[split]
            assert again.tobytes() == numbers.tobytes()


def test_columns_are_those_that_the_facts_name(opened: Opened) -> None:
    facts, data = opened.source.facts(), opened.data
    assert set(data.columns) == set(facts.columns)
    for name, by_split in data.columns.items():
        assert set(by_split) == set(data.labels)
        for split, values in by_split.items():
            assert values.dtype.kind == "U"
            assert values.shape == data.labels[split].shape
        every = np.concatenate(list(by_split.values())).tolist()
        assert facts.columns[name] == in_natural_order(every)


def test_labels_and_images_have_the_promised_form(opened: Opened) -> None:
    facts, data = opened.source.facts(), opened.data
    size = facts.image_size
    for split, labels in data.labels.items():
        assert labels.dtype == np.int64
        assert labels.ndim == 1
        for indices in (some(labels), np.arange(0)):
            images = data.images(split, indices)
            assert images.dtype == np.uint8
            assert images.shape == (len(indices), facts.num_channels, size, size)
            assert images.flags.c_contiguous
            assert images.flags.writeable
            assert type(images) is np.ndarray
        assert len(np.unique(data.images(split, some(labels)))) > 16


def test_an_image_does_not_depend_on_the_others(opened: Opened) -> None:
    for split, labels in opened.data.labels.items():
        indices = some(labels)
        together = opened.data.images(split, indices)
        np.testing.assert_array_equal(together[0], together[-1])
        np.testing.assert_array_equal(opened.data.images(split, indices[::-1]), together[::-1])
        for position in (0, 4):
            alone = opened.data.images(split, indices[position : position + 1])
            np.testing.assert_array_equal(alone[0], together[position])


def test_no_two_images_are_the_same(opened: Opened) -> None:
    for split, labels in opened.data.labels.items():
        images = opened.data.images(split, some(labels)[:-1])
        assert len({image.tobytes() for image in images}) == len(images)


def test_images_belong_to_the_caller(opened: Opened) -> None:
    split, labels = next(iter(opened.data.labels.items()))
    indices = some(labels)
    before = opened.data.images(split, indices).copy()
    opened.data.images(split, indices)[:] = 0
    np.testing.assert_array_equal(opened.data.images(split, indices), before)


def test_opened_again_it_is_the_same(opened: Opened) -> None:
    again = opened.source.open(Streams(3))
    assert dict(again.checksums) == dict(opened.data.checksums) != {}
    assert all(isinstance(value, str) and value for value in again.checksums.values())
    for split, labels in opened.data.labels.items():
        np.testing.assert_array_equal(again.labels[split], labels)
        images = again.images(split, some(labels))
        np.testing.assert_array_equal(images, opened.data.images(split, some(labels)))


def test_a_seed_changes_generated_images_and_never_real_ones(opened: Opened) -> None:
    other = opened.source.open(Streams(4))
    split, labels = next(iter(opened.data.labels.items()))
    same_images = np.array_equal(
        other.images(split, some(labels)), opened.data.images(split, some(labels))
    )
    same_checksums = dict(other.checksums) == dict(opened.data.checksums)
    assert same_images == same_checksums == (not opened.source.facts().synthetic)
