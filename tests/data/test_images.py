"""Pictures as a source: labels, sites and splits as listed, pixels read once and late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

import fedsim.data.pictures
from fedsim.data.images import PICTURES_AT_ONCE, Images
from fedsim.data.source import Dataset
from fedsim.errors import DataError
from fedsim.seeds import Streams

SITES = ["Basel", "Bern 10", "Bern 2"]


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, NDArray[np.uint8]]:
    """Write a manifest of 300 pictures, in two splits; return it and their pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (300, 16, 16), np.uint8)
    lines = ["path,label,site,patient,split"]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        split = "test" if number % 5 == 0 else "train"
        lines.append(f"{number}.png,{number % 12},{SITES[number % 3]},p{number // 2},{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "manifest.csv", pixels


def opened(path: Path, **options: Any) -> tuple[Images, Dataset]:
    source = Images(**{"path": path, "image_size": 16, **options})
    return source, source.open(Streams(0))


def test_what_is_listed_is_what_there_is(study: tuple[Path, NDArray[np.uint8]]) -> None:
    path, pixels = study
    source, data = opened(path)
    facts = source.facts()
    assert facts.class_names == tuple(map(str, range(12)))
    assert dict(facts.num_examples) == {"train": 240, "test": 60}
    assert facts.columns["site"] == ("Basel", "Bern 2", "Bern 10")
    assert len(facts.columns["patient"]) == 150
    numbers = {s: [n for n in range(300) if (n % 5 == 0) == (s == "test")] for s in data.labels}
    for split, mine in numbers.items():
        assert data.labels[split].tolist() == [n % 12 for n in mine]
        assert data.columns["site"][split].tolist() == [SITES[n % 3] for n in mine]
        chosen = np.array([5, 0, 7, 5])
        np.testing.assert_array_equal(
            data.images(split, chosen)[:, 0], pixels[[mine[i] for i in chosen]]
        )
        np.testing.assert_array_equal(data.images(split, np.arange(len(mine)))[:, 0], pixels[mine])


def test_only_what_is_asked_for_is_read_and_only_once(
    study: tuple[Path, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path / "cache"))
    read, calls = fedsim.data.pictures.read, []

    def counted(paths: Any, **options: Any) -> Any:
        calls.append(len(paths))
        return read(paths, **options)

    monkeypatch.setattr("fedsim.data.pictures.read", counted)
    source, data = opened(study[0])
    source.facts()
    assert calls == []
    data.images("train", np.array([3, 4]))
    assert calls == [PICTURES_AT_ONCE]
    data.images("train", np.array([4, PICTURES_AT_ONCE]))
    assert calls == [PICTURES_AT_ONCE, 240 - PICTURES_AT_ONCE]
    opened(study[0])[1].images("train", np.arange(240))
    assert len(calls) == 2, "the second time they come from the cache"
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(study[0].parent / "1.png")
    assert (opened(study[0])[1].images("train", np.array([0])) == 9).all()
    assert len(calls) == 3, "a changed file is read again"


def test_classes_can_be_put_in_order(study: tuple[Path, NDArray[np.uint8]]) -> None:
    names = tuple(str(n) for n in reversed(range(12)))
    source, data = opened(study[0], class_names=names, ordinal=True)
    assert source.facts().class_names == names
    assert data.labels["test"][0] == 11
    with pytest.raises(DataError, match="labels that are no classes: '10', '11', '2'"):
        opened(study[0], class_names=("0", "1"))


def test_classes_need_names_that_differ(tmp_path: Path) -> None:
    for names in ((), ("ill", "ill")):
        with pytest.raises(ValidationError):
            Images(path=tmp_path, image_size=16, class_names=names)


def test_folders_are_a_source_too(tmp_path: Path) -> None:
    for number, label in enumerate(["well", "ill", "ill"]):
        place = tmp_path / "Basel" / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 50 * number, np.uint8)).save(place / f"{number}.png")
    source, data = opened(tmp_path)
    assert source.facts().class_names == ("ill", "well")
    assert dict(source.facts().columns) == {"site": ("Basel",)}
    assert data.labels["all"].tolist() == [0, 0, 1]
    assert data.images("all", np.arange(3))[:, 0, 0, 0].tolist() == [50, 100, 0]
    assert list(data.checksums) == [tmp_path.name]


def test_a_picture_that_went_away_is_told(study: tuple[Path, NDArray[np.uint8]]) -> None:
    _, data = opened(study[0])
    (study[0].parent / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: cannot be read: No such file"):
        data.images("train", np.array([0]))


def test_settings_keep_their_own_copies(study: tuple[Path, NDArray[np.uint8]]) -> None:
    colour = opened(study[0], num_channels=3, image_size=32)[1]
    assert colour.images("train", np.array([0])).shape == (1, 3, 32, 32)
    assert opened(study[0])[1].images("train", np.array([0])).shape == (1, 1, 16, 16)
