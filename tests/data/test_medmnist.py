"""MedMNIST files: found, recognised, or refused with a way out."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from fedsim.data import medmnist
from fedsim.data.array_hash import array_hash
from fedsim.data.medmnist import Finding, MedMnist
from fedsim.data.medmnist_registry import REGISTRY, Entry
from fedsim.data.source import SPLITS
from fedsim.errors import DataError, ScenarioError
from fedsim.scenario import load_scenario
from fedsim.seeds import Streams

SIZES = {"train": 6, "val": 4, "test": 5}
Arrays = dict[str, Any]


def fake_arrays(num_channels: int = 1) -> Arrays:
    """Return the arrays of a three-class set of random images, in the publisher's layout."""
    rng = np.random.default_rng(0)
    pixels = (28, 28, 3) if num_channels == 3 else (28, 28)
    arrays: Arrays = {}
    for split, n in SIZES.items():
        arrays[f"{split}_images"] = rng.integers(256, size=(n, *pixels), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % 3)[:, None]
    return arrays


def canonical(arrays: Arrays) -> Arrays:
    return {k: v.ravel().astype("<i8") if "labels" in k else v for k, v in arrays.items()}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of our own, an empty cache, and no network."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FEDSIM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(medmnist, "URL", (tmp_path / "nowhere").as_uri() + "/{file}")
    return tmp_path / "data"


def publish(
    monkeypatch: pytest.MonkeyPatch, path: Path, arrays: Arrays, **changes: Any
) -> MedMnist:
    """Save `arrays` as the official retinamnist file at `path` and put it into the registry."""
    np.savez(path, **arrays)
    entry = Entry(
        class_names=("a", "b", "c"),
        num_channels=3 if arrays["train_images"].ndim == 4 else 1,
        num_examples=(SIZES["train"], SIZES["val"], SIZES["test"]),
        md5=(md5(path), "", "", ""),
        arrays_28=array_hash(canonical(arrays)),
    )
    replaced = {"retinamnist": dataclasses.replace(entry, **changes)}
    monkeypatch.setattr(medmnist, "REGISTRY", replaced)
    return MedMnist(name="retinamnist")


def opened(source: MedMnist) -> Any:
    return source.open(Streams(0))


@pytest.mark.parametrize("num_channels", [1, 3])
def test_labels_and_images_are_those_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, num_channels: int
) -> None:
    arrays = fake_arrays(num_channels)
    path = folder / "retinamnist.npz"
    data = opened(publish(monkeypatch, path, arrays))
    assert tuple(data.labels) == SPLITS
    assert data.labels["validation"].dtype == np.int64
    np.testing.assert_array_equal(data.labels["validation"], arrays["val_labels"][:, 0])
    images = data.images("test", np.array([4, 0]))
    assert images.shape == (2, num_channels, 28, 28)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    original = arrays["test_images"][4].reshape(28, 28, num_channels)
    for channel in range(num_channels):
        np.testing.assert_array_equal(images[0, channel], original[:, :, channel])
    assert data.checksums == {"retinamnist.npz": f"arrays-sha256:{array_hash(canonical(arrays))}"}


def test_what_is_returned_may_be_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = fake_arrays()
    source = publish(monkeypatch, folder / "retinamnist.npz", arrays)
    data = opened(source)
    data.images("train", np.arange(6))[:] = 0
    data.labels["train"][:] = 0
    again = opened(source)
    np.testing.assert_array_equal(again.images("train", np.arange(6))[:, 0], arrays["train_images"])
    np.testing.assert_array_equal(again.labels["train"], arrays["train_labels"][:, 0])


@pytest.mark.parametrize(
    "relabel",
    [
        lambda labels: labels,
        lambda labels: labels[:, 0],
        lambda labels: labels.astype(np.int64),
        lambda labels: labels[:, 0].astype(">i4"),
    ],
)
def test_a_copy_with_equal_arrays_is_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, relabel: Any
) -> None:
    arrays = fake_arrays()
    path = folder / "retinamnist.npz"
    source = publish(monkeypatch, path, arrays)
    official, checksums = md5(path), opened(source).checksums
    copy = {k: relabel(v) if "labels" in k else v for k, v in reversed(arrays.items())}
    np.savez_compressed(path, **copy, note=np.array("zipped anew"))
    assert md5(path) != official
    data = opened(source)
    assert data.checksums == checksums
    np.testing.assert_array_equal(data.labels["test"], arrays["test_labels"][:, 0])


def test_one_changed_pixel_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = fake_arrays()
    path = folder / "retinamnist.npz"
    source = publish(monkeypatch, path, arrays)
    expected = md5(path)
    arrays["train_images"][0, 0, 0] ^= 1
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="not the official file") as raised:
        opened(source)
    assert expected in str(raised.value)
    assert md5(path) in str(raised.value)
    assert "Delete it" in str(raised.value)


def test_without_a_known_array_hash_only_the_md5_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "retinamnist.npz"
    source = publish(monkeypatch, path, fake_arrays(), arrays_28="")
    opened(source)
    np.savez_compressed(path, **fake_arrays())
    with pytest.raises(DataError, match="not recorded"):
        opened(source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_labels": None, "test_images": None}, "lacks the arrays val_labels, test_images"),
        ({"train_images": np.zeros((6, 64, 64), np.uint8)}, r"train_images is uint8 \(6, 64, 64\)"),
        ({"train_images": np.zeros((5, 28, 28), np.uint8)}, r"expected uint8 \(6, 28, 28\)"),
        ({"test_images": np.zeros((5, 28, 28, 3), np.uint8)}, "test_images is uint8"),
        ({"test_images": np.zeros((5, 28, 28))}, "test_images is float64"),
        ({"val_labels": np.zeros((4, 14), np.uint8)}, r"val_labels is uint8 \(4, 14\)"),
        ({"val_labels": np.zeros((4, 1))}, "val_labels is float64"),
        ({"val_labels": np.full(4, 3)}, "reach from 3 to 3, expected 0 to 2"),
        ({"val_labels": np.full(4, -1)}, "reach from -1"),
        ({"val_labels": np.array([object()] * 4)}, "val_labels holds Python objects"),
    ],
)
def test_a_file_of_another_make_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Arrays, message: str
) -> None:
    path = folder / "retinamnist.npz"
    source = publish(monkeypatch, path, fake_arrays())
    changed = {k: v for k, v in {**fake_arrays(), **change}.items() if v is not None}
    np.savez(path, **changed)
    with pytest.raises(DataError, match=message) as raised:
        opened(source)
    assert str(path) in str(raised.value)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a web page":
        path.write_bytes(b"<!doctype html><title>Not found</title>")
    elif how == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content[:3000] + bytes(100) + content[3100:])


@pytest.mark.parametrize("how", ["cut short", "empty", "a web page", "npy", "some bytes lost"])
def test_a_damaged_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = folder / "retinamnist.npz"
    source = publish(monkeypatch, path, fake_arrays())
    damage(path, how)
    with pytest.raises(DataError, match="Delete it"):
        opened(source)


def test_the_named_folder_comes_before_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    source = publish(monkeypatch, tmp_path / "cache" / "retinamnist.npz", fake_arrays())
    assert source.is_local()
    opened(source)
    (folder / "retinamnist.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"data/retinamnist\.npz: the file cannot be read"):
        opened(source)


def test_a_missing_file_is_never_downloaded_unasked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medmnist, "download", lambda *_: pytest.fail("a download was begun"))
    with pytest.raises(DataError, match="`fedsim data fetch breastmnist --image-size 64`") as found:
        opened(MedMnist(name="breastmnist", image_size=64))
    assert str(folder) in str(found.value)
    assert medmnist.URL.format(file="breastmnist_64.npz") in str(found.value)


def test_a_missing_file_is_downloaded_when_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(medmnist, "URL", "https://nowhere.example/{file}")
    source = publish(monkeypatch, tmp_path / "remote.npz", fake_arrays())
    calls = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path, **_: Any) -> str:
        calls.append((url, known_hash))
        path.mkdir()
        (path / fname).write_bytes((tmp_path / "remote.npz").read_bytes())
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert not source.is_local()
    source.fetch()
    assert source.is_local()
    opened(source)
    assert calls == [
        (medmnist.URL.format(file="retinamnist.npz"), f"md5:{md5(tmp_path / 'remote.npz')}")
    ]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("hash is other")])
def test_a_failed_download_says_what_to_put_where(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pooch = pytest.importorskip("pooch")

    def retrieve(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match="could not be downloaded") as raised:
        MedMnist(name="breastmnist", image_size=64).fetch()
    message = str(raised.value)
    assert "\n" not in message
    assert "breastmnist_64.npz" in message
    assert REGISTRY["breastmnist"].md5[1] in message
    assert str(folder) in message
    assert str(tmp_path / "cache") in message
    assert medmnist.URL.format(file="breastmnist_64.npz") in message


def test_an_address_that_pooch_cannot_open_is_a_data_error(folder: Path) -> None:
    with pytest.raises(DataError, match="could not be downloaded"):
        MedMnist(name="breastmnist").fetch()


def test_a_named_folder_that_does_not_exist_is_an_error_not_a_download(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("a download was begun"))
    source = MedMnist(name="breastmnist")
    (folder / "a file").touch()
    for name in ("mistyped", "a file"):
        monkeypatch.setenv("FEDSIM_DATA_DIR", str(folder / name))
        for use in (source.is_local, lambda: opened(source)):
            with pytest.raises(DataError, match="FEDSIM_DATA_DIR names the folder") as raised:
                use()
            assert str(folder / name) in str(raised.value)
    monkeypatch.setenv("FEDSIM_DATA_DIR", "")
    assert not source.is_local()


def fake_chest() -> Arrays:
    """Return grey images whose labels are those of 14 findings; the first image has none."""
    labels = {f"{s}_labels": np.eye(n, 14, -1, dtype=np.uint8) for s, n in SIZES.items()}
    labels["train_labels"][2, 12] = 1
    return {**fake_arrays(), **labels}


def publish_chest(monkeypatch: pytest.MonkeyPatch, path: Path, arrays: Arrays) -> None:
    """Save `arrays` as the official chestmnist file at `path` and put it into the registry."""
    np.savez(path, **arrays)
    known = {k: v.astype("<i8") if "labels" in k else v for k, v in arrays.items()}
    entry = dataclasses.replace(
        REGISTRY["chestmnist"],
        num_examples=tuple(SIZES.values()),
        md5=(md5(path), "", "", ""),
        arrays_28=array_hash(known),
    )
    monkeypatch.setattr(medmnist, "REGISTRY", {"chestmnist": entry})


@pytest.mark.parametrize(
    ("finding", "class_names", "train"),
    [
        ("atelectasis", ("no atelectasis", "atelectasis"), [0, 1, 0, 0, 0, 0]),
        ("cardiomegaly", ("no cardiomegaly", "cardiomegaly"), [0, 0, 1, 0, 0, 0]),
        (
            "pleural_thickening",
            ("no pleural thickening", "pleural thickening"),
            [0, 0, 1, 0, 0, 0],
        ),
        ("any", ("no finding", "any finding"), [0, 1, 1, 1, 1, 1]),
    ],
)
def test_one_finding_is_absent_or_present(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    finding: Any,
    class_names: Any,
    train: list[int],
) -> None:
    source = MedMnist(name="chestmnist", finding=finding)
    assert source.facts().class_names == class_names
    assert not source.facts().ordinal
    arrays = fake_chest()
    publish_chest(monkeypatch, folder / "chestmnist.npz", arrays)
    data = opened(source)
    assert data.labels["train"].dtype == np.int64
    assert data.labels["train"].tolist() == train
    assert {split: len(labels) for split, labels in data.labels.items()} == {
        "train": 6,
        "validation": 4,
        "test": 5,
    }
    np.testing.assert_array_equal(data.images("test", np.arange(5))[:, 0], arrays["test_images"])


def test_a_copy_of_several_labels_per_image_is_known_by_its_arrays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, arrays = folder / "chestmnist.npz", fake_chest()
    publish_chest(monkeypatch, path, arrays)
    source = MedMnist(name="chestmnist", finding="hernia")
    checksums = opened(source).checksums
    wider = {k: v.astype(np.int64) if "labels" in k else v for k, v in arrays.items()}
    np.savez_compressed(path, **wider)
    assert opened(source).checksums == checksums
    wider["val_labels"] = wider["val_labels"][:, ::-1]
    np.savez_compressed(path, **wider)
    with pytest.raises(DataError, match="not the official file"):
        opened(source)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 1), np.uint8), r"val_labels is uint8 \(4, 1\), expected integers \(4, 14\)"),
        (np.zeros(4 * 14, np.uint8), r"val_labels is uint8 \(56,\)"),
        (np.zeros((14, 4), np.uint8), r"val_labels is uint8 \(14, 4\)"),
        (np.zeros((4, 14)), "val_labels is float64"),
        (np.full((4, 14), 2), "reach from 2 to 2, expected 0 to 1"),
    ],
)
def test_findings_of_another_make_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, labels: Any, message: str
) -> None:
    path = folder / "chestmnist.npz"
    publish_chest(monkeypatch, path, fake_chest())
    np.savez(path, **{**fake_chest(), "val_labels": labels})
    with pytest.raises(DataError, match=message):
        opened(MedMnist(name="chestmnist", finding="any"))


def test_chestmnist_alone_takes_a_finding_and_needs_it() -> None:
    assert get_args(Finding) == (
        *(name.replace(" ", "_") for name in REGISTRY["chestmnist"].class_names),
        "any",
    )
    with pytest.raises(ValidationError, match=r"name one of atelectasis, .*, hernia, any"):
        MedMnist(name="chestmnist")
    with pytest.raises(ValidationError, match=r"'edema', .* 'hernia' or 'any'"):
        MedMnist.model_validate({"name": "chestmnist", "finding": "oedema"})
    with pytest.raises(ValidationError, match="pneumoniamnist has one class per image"):
        MedMnist(name="pneumoniamnist", finding="pneumonia")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{kind: medmnist, name: chestmnist}", "data.source.finding chestmnist has several"),
        ("{kind: medmnist, name: chestmnist, finding: oedema}", "did you mean 'edema'?"),
        ("{kind: medmnist, name: chestmnist, finding: pleural}", "mean 'pleural_thickening'?"),
        ("{kind: medmnist, name: octmnist, finding: edema}", "octmnist has one class per image"),
    ],
)
def test_a_scenario_says_which_finding_was_meant(source: str, message: str) -> None:
    quickstart = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
    with pytest.raises(ScenarioError) as raised:
        load_scenario(quickstart, [f"data.source={source}"])
    assert message in " ".join(str(raised.value).split())


def test_the_registry_is_complete() -> None:
    names = get_args(medmnist.Name)
    assert tuple(REGISTRY) == names
    for name in names:
        entry = REGISTRY[name]
        finding: Any = "any" if entry.multi_label else None
        facts = MedMnist(name=name, image_size=128, finding=finding).facts()
        assert entry.multi_label == (name == "chestmnist")
        assert facts.licence == ("CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0")
        assert facts.has_official_splits
        assert facts.image_size == 128
        assert len(set(entry.class_names)) == len(entry.class_names)
        assert all(len(m) == 32 and int(m, 16) for m in entry.md5)
        assert facts.ordinal == (name == "retinamnist")
        assert "41597-022-01721-8" in facts.citation
    sums = [m for entry in REGISTRY.values() for m in entry.md5]
    assert len(set(sums)) == len(sums)


def test_published_totals() -> None:
    """Table 2 of the paper where the files still agree with it."""
    totals = {"pathmnist": 107180, "chestmnist": 112120, "dermamnist": 10015, "octmnist": 109309}
    totals |= {"pneumoniamnist": 5856, "retinamnist": 1600, "breastmnist": 780}
    totals |= {"bloodmnist": 17092, "tissuemnist": 236386}
    assert {name: sum(REGISTRY[name].num_examples) for name in totals} == totals


def test_breast_class_0_is_malignant() -> None:
    assert MedMnist(name="breastmnist").facts().class_names[0] == "malignant"


def test_the_licence_is_said_where_the_sets_are_listed() -> None:
    summary = (MedMnist.__doc__ or "").split("\n\n")[0]
    assert "CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)" in summary
    assert "Yang et al." in summary


@pytest.mark.parametrize(
    ("name", "label_counts"),
    [
        ("pneumoniamnist", {"train": [1214, 3494], "test": [234, 390]}),
        ("retinamnist", {"train": [486, 128, 206, 194, 66], "test": [174, 46, 92, 68, 20]}),
    ],
)
def test_the_real_files(
    data_folder: Path,
    name: Any,
    label_counts: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    official = data_folder / f"{name}.npz"
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path))
    data = opened(MedMnist(name=name))
    assert md5(official) == REGISTRY[name].md5[0]
    for split, counts in label_counts.items():
        assert np.bincount(data.labels[split]).tolist() == counts
    monkeypatch.setenv("FEDSIM_DATA_DIR", str(tmp_path))
    with np.load(official) as file:
        np.savez_compressed(tmp_path / f"{name}.npz", **{k: file[k].squeeze() for k in file})
    copy = opened(MedMnist(name=name))
    assert copy.checksums == data.checksums
    indices = np.arange(100)
    np.testing.assert_array_equal(copy.images("test", indices), data.images("test", indices))


def test_import_is_light() -> None:
    code = (
        "import sys, fedsim.data.medmnist\n"
        "print([m for m in ('torch', 'pooch', 'sklearn', 'monai') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
