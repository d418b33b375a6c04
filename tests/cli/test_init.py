"""`fedsim init`: what it sees, and that what it writes is valid, runs, and teaches no mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fedsim as api
from fedsim import starter
from fedsim.scenario import open_population

Make = Callable[[Path], Path]


def picture(path: Path, number: int, *, colour: bool = False, size: int = 24) -> Path:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 255, (size, size, 3) if colour else (size, size), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def manifest(
    folder: Path, columns: Callable[[int], dict[str, str]], num: int = 120, **form: Any
) -> Path:
    lines = []
    for number in range(num):
        name = picture(folder / "pictures" / f"{number}.png", number, **form).relative_to(folder)
        row = {"path": str(name), **columns(number)}
        lines = lines or [",".join(f'"{heading}"' for heading in row)]
        lines.append(",".join(row.values()))
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def three_hospitals(folder: Path) -> Path:
    return manifest(
        folder / "chest",
        lambda n: {
            "label": ("pneumonia", "normal")[n // 3 % 2],
            "site": ("Basel", "Bern", "Zürich")[n % 3],
            "patient": f"p{n // 6}-{n % 3}-{n // 3 % 2}",
        },
    )


def other_words(folder: Path) -> Path:
    return manifest(
        folder,
        lambda n: {
            "label": f"type {n % 3}",
            "hospital": f"#{n // 3 % 2}: yes",
            "subject": f"{n}",
            "odd\nrounds: 7 #": "x",
        },
        colour=True,
        size=90,
    )


def with_splits(folder: Path) -> Path:
    return manifest(
        folder,
        lambda n: {
            "label": "no: finding" if n % 2 else "yes",
            "split": ("train", "train", "train", "train", "val", "test")[n // 2 % 6],
        },
    )


def with_test_images(folder: Path) -> Path:
    return manifest(
        folder, lambda n: {"label": "ab"[n % 2], "split": "test" if n % 5 == 0 else "train"}
    )


def folders(folder: Path) -> Path:
    for number in range(90):
        site, label = (
            ("A", "B", "C")[number % 3],
            ("grade 1", "grade 2", "grade 3")[number // 3 % 3],
        )
        picture(folder / "my eyes" / site / label / f"{number}.png", number)
    return folder / "my eyes"


def classes_alone(folder: Path) -> Path:
    for number in range(40):
        picture(folder / "films" / ("healthy", "ill")[number % 2] / f"{number}.png", number)
    return folder / "films"


def arrays(folder: Path) -> Path:
    path = folder / "study.npz"
    labels = np.arange(90) % 2
    images = np.random.default_rng(0).random((90, 28, 28, 3)).astype(np.float32)
    np.savez(
        path, images=images, labels=labels, site=np.array(["x", "y", "z"])[np.arange(90) // 30]
    )
    return path


def published(folder: Path) -> Path:
    path = folder / "breastmnist.npz"
    rng = np.random.default_rng(0)
    found = {}
    for split, num in (("train", 60), ("val", 20), ("test", 20)):
        found[f"{split}_images"] = rng.integers(0, 255, (num, 28, 28), np.uint8)
        found[f"{split}_labels"] = (np.arange(num) % 2)[:, None]
    np.savez(path, **found)
    return path


FORMS: list[Make] = [
    three_hospitals,
    other_words,
    with_splits,
    with_test_images,
    folders,
    classes_alone,
    arrays,
    published,
]
each = pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each
def test_what_is_written_is_valid_and_fits_its_sites(fedsim: Any, here: Path, make: Make) -> None:
    code, out, err = fedsim("init", make(here), "--out", "studies/first.yaml")
    assert (code, err) == (0, "")
    assert "written: studies/first.yaml" in out
    scenario = api.load_scenario("studies/first.yaml")
    sizes = open_population(scenario).sizes()
    assert len(sizes) >= 2
    assert 4 * scenario.client.batch_size <= max(16, min(sizes))
    assert scenario.name == "first"


def offered(text: str) -> Iterator[str]:
    """Yield the scenario with one of its settings uncommented at a time."""
    for block in re.finditer(r"(?:^ *#\w.*\n)(?:^ *# {2}\w.*\n)*", text, re.MULTILINE):
        bare = re.sub(r"^( *)#", r"\1", block.group(), flags=re.MULTILINE)
        yield text[: block.start()] + bare + text[block.end() :]


@each
def test_every_setting_that_it_offers_can_be_had(tmp_path: Path, make: Make) -> None:
    seen = starter.look(str(make(tmp_path)))
    texts = list(offered(starter.scenario_for(seen, tmp_path / "first.yaml")))
    assert len(texts) >= 8
    for text in texts:
        (tmp_path / "changed.yaml").write_text(text, encoding="utf-8")
        open_population(api.load_scenario(tmp_path / "changed.yaml"))


def test_hospitals_classes_and_patients_are_seen(fedsim: Any, here: Path) -> None:
    code, out, _ = fedsim("init", three_hospitals(here))
    assert code == 0
    assert out.splitlines()[:4] == [
        "120 images, grey; longer side 24 pixels in the median",
        "classes: normal 60, pneumonia 60",
        "sites (column site): Basel 40, Bern 40, Zürich 40",
        "patients: 120; none is divided over sites or splits",
    ]
    assert [line.split("#")[0].split() for line in out.splitlines()[-3:]] == [
        ["fedsim", "data", "preview", "chest.yaml"],
        ["fedsim", "plan", "chest.yaml"],
        ["fedsim", "run", "chest.yaml"],
    ]
    scenario = api.load_scenario("chest.yaml")
    assert scenario.data.classes[scenario.data.positive_class] == "pneumonia"
    assert list(scenario.site_names) == ["Basel", "Bern", "Zürich"]


def test_colour_size_and_other_words_are_seen(tmp_path: Path) -> None:
    seen = starter.look(str(other_words(tmp_path)))
    assert (seen.facts.num_channels, seen.facts.image_size, seen.original_size) == (3, 64, 90)
    assert (seen.site_column, seen.maybe_patient) == ("hospital", "subject")
    assert "call that column 'patient'" in " ".join(seen.lines())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (with_splits, "official"),
        (with_test_images, {"validation": 0.15, "test": "official"}),
        (three_hospitals, {"validation": 0.15, "test": 0.2}),
    ],
    ids=["all splits", "train and test", "none"],
)
def test_splits_that_data_bring_are_kept(tmp_path: Path, make: Make, expected: Any) -> None:
    text = starter.scenario_for(starter.look(str(make(tmp_path))), tmp_path / "first.yaml")
    (tmp_path / "first.yaml").write_text(text, encoding="utf-8")
    held_out = api.load_scenario(tmp_path / "first.yaml").resolved()["population"]["held_out"]
    assert held_out == expected


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (("healthy", "ill"), 1),
        (("malignant", "normal, benign"), 0),
        (("a", "b"), 1),
        (("no finding", "none"), 1),
        (("effusion", "no effusion"), 0),
        (("nodule", "normal"), 0),
    ],
)
def test_the_disease_is_told_from_health_by_its_name(
    classes: tuple[str, str], positive: int
) -> None:
    assert starter.writing._positive(classes) == positive


def test_no_file_is_overwritten(fedsim: Any, here: Path) -> None:
    kept = here / "films.yaml"
    kept.write_text("mine")
    for options in ([], ["--out", kept]):
        code, _, err = fedsim("init", classes_alone(here), *options)
        assert (code, err.startswith("Error: ")) == (2, True)
        assert "films.yaml: exists and is left alone; name another file with --out" in err
    assert kept.read_text() == "mine"
    (here / "link.yaml").symlink_to(here / "nowhere")
    assert fedsim("init", "synthetic", "--out", here / "link.yaml")[0] == 2


def one_class(folder: Path) -> Path:
    return manifest(folder, lambda n: {"label": "ill"}, num=6)


def ages(folder: Path) -> Path:
    return manifest(folder, lambda n: {"label": f"{n}.5"}, num=6)


def few(folder: Path) -> Path:
    return manifest(folder, lambda n: {"label": "ab"[n % 2], "site": "xy"[n // 2 % 2]}, num=4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "absent", "there is no such file or folder; expected a CSV"),
        (lambda folder: "sinthetic", "expected a CSV manifest"),
        (lambda folder: Path(__file__), r"expected a CSV manifest \(\.csv\), a folder of"),
        (lambda folder: "bloodmnist", "get it with `fedsim data fetch bloodmnist`"),
        (one_class, "all images have the label 'ill'"),
        (ages, "6 different labels for 6 images are no classes"),
        (few, "no scenario fits these data yet"),
    ],
)
def test_what_cannot_be_used_is_refused(
    fedsim: Any, here: Path, make: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDSIM_DATA_DIR", raising=False)
    code, out, err = fedsim("init", make(here), "--out", "first.yaml")
    assert (code, out) == (2, "")
    assert re.search(says, err)
    assert not (here / "first.yaml").exists()


def test_a_name_that_is_no_scenario_is_refused(fedsim: Any, here: Path) -> None:
    code, _, err = fedsim("init", "synthetic", "--out", "first.txt")
    assert (code, err) == (2, "Error: --out first.txt: expected a file that ends in .yaml\n")


def test_a_set_of_medmnist_is_known_by_its_name(
    fedsim: Any, here: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_DATA_DIR", str(data_folder))
    assert fedsim("init", "retinamnist")[0] == 0
    scenario = api.load_scenario("retinamnist.yaml")
    assert (scenario.data.source.kind, scenario.data.task) == ("medmnist", "ordinal")
    assert scenario.population.held_out == "official"


@pytest.mark.slow
@pytest.mark.parametrize("make", [three_hospitals, folders, published], ids=lambda m: m.__name__)
def test_what_is_written_runs(fedsim: Any, here: Path, make: Make) -> None:
    assert fedsim("init", make(here), "--out", "first.yaml")[0] == 0
    code, out, _ = fedsim("run", "first.yaml", "--set", "rounds=1", "--device", "cpu")
    assert code == 0
    assert Path(out.splitlines()[-1], "report", "index.html").is_file()
