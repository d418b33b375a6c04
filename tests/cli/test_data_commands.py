"""`fedsim data`: list, fetch, preview and unpack."""

from __future__ import annotations

import http.server
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def test_sets_are_listed_with_those_that_are_here(
    fedsim: Any, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_DATA_DIR", str(data_folder))
    code, out, _ = fedsim("data", "list")
    assert code == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines() if "mnist" in line}
    assert rows["pneumoniamnist"][1:6] == ["4708", "524", "624", "2", "1"]
    assert rows["pneumoniamnist"][-1] == "yes"
    assert rows["pathmnist"][-1] == "no"
    assert "fedsim data fetch" in out
    assert "28, 64, 128 and 224 pixels" in out
    for kind in ("synthetic", "images", "npz"):
        assert f"\n  {kind} " in out


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(data_folder: Path, serve: Callable[..., str]) -> str:
    """Serve the real files on this computer."""
    return serve(partial(_Quiet, directory=str(data_folder))) + "/{file}"


def test_a_set_is_fetched_once_and_verified(
    fedsim: Any, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.data.medmnist.URL", served)
    monkeypatch.delenv("FEDSIM_DATA_DIR", raising=False)
    code, out, err = fedsim("data", "fetch", "retinamnist")
    assert code == 0
    assert "retinamnist.npz: downloading" in err
    file, checksum = out.split()
    assert Path(file) == tmp_path / "cache" / "retinamnist.npz"
    assert checksum.startswith("arrays-sha256:")
    code, again, err = fedsim("data", "fetch", "retinamnist")
    assert (code, again) == (0, out)
    assert "retinamnist.npz: is here" in err


def test_a_terminal_shows_how_much_has_come(
    fedsim: Any, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.data.medmnist.URL", served)
    monkeypatch.setattr("fedsim.cli.streams.Lasting.isatty", lambda self: True)
    monkeypatch.delenv("FEDSIM_DATA_DIR", raising=False)
    code, out, err = fedsim("data", "fetch", "retinamnist")
    assert code == 0
    assert out.count("\n") == 1
    assert "MB" in err


def test_what_cannot_be_fetched_is_told(
    fedsim: Any, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.data.medmnist.URL", served)
    monkeypatch.delenv("FEDSIM_DATA_DIR", raising=False)
    code, _, err = fedsim("data", "fetch", "breastmnist")
    assert code == 2
    assert "could not be downloaded" in err
    assert "put it into" in err
    assert fedsim("data", "fetch", "retinmnist")[2].startswith(
        "Error: there is no set 'retinmnist'; did you mean 'retinamnist'?"
    )


def test_a_preview_is_drawn_and_never_over_a_file(
    fedsim: Any, quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = fedsim("data", "preview", quickstart, "--per-class", 2)
    assert code == 0
    assert out.splitlines()[-1] == "quickstart-preview.png"
    assert "no image is there twice" in out
    with Image.open(tmp_path / "quickstart-preview.png") as sheet:
        assert min(sheet.size) > 400
    code, _, err = fedsim("data", "preview", quickstart)
    assert code == 2
    assert "exists; name another file" in err
    assert fedsim("data", "preview", quickstart, "--force", "--split", "test")[0] == 0
    assert fedsim("data", "preview", quickstart, "--force", "--out", tmp_path)[0] == 2


@pytest.mark.parametrize("form", ["manifest", "folder", "no sites"])
def test_pictures_are_previewed_without_a_scenario(fedsim: Any, tmp_path: Path, form: str) -> None:
    lines = ["path,label,site" if form == "manifest" else "path,label"]
    for number in range(12):
        site, label = ("Basel", "Bern")[number % 2], ("ill", "well")[number % 3 % 2]
        path = tmp_path / "pictures" / site / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30), 9 * number, np.uint8)).save(path)
        listed = path.relative_to(tmp_path / "pictures")
        lines.append(f"{listed},{label}" + f",{site}" * (form == "manifest"))
    (tmp_path / "pictures" / "m.csv").write_text("\n".join(lines))
    target = tmp_path / "pictures" / ("" if form == "folder" else "m.csv")
    code, out, err = fedsim("data", "preview", target, "--out", tmp_path / "sheet.png")
    assert (code, err) == (0, "")
    assert ("Basel" in out) == (form != "no sites")
    assert (tmp_path / "sheet.png").is_file()


def saved(folder: Path, form: str) -> Path:
    """Save twelve images of two classes under the names of a form."""
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 16), np.uint8)
    labels = np.arange(12) % 2
    plain = {"images": pixels, "labels": np.array(["ill", "well"])[labels]}
    arrays = {
        "plain": plain,
        "all": {
            **plain,
            "site": np.array(["Basel", "Bern"]).repeat(6),
            "patient": np.arange(12).astype(str),
            "split": np.array(["train", "val", "test"] * 4),
        },
        "by split": {
            f"{prefix}_{what}": values
            for prefix in ("train", "val")
            for what, values in (("images", pixels), ("labels", labels[:, None]))
        },
        "strange": {"x": pixels, "y": labels},
    }
    np.savez(folder / "s.npz", **arrays[form])
    return folder / "s.npz"


@pytest.mark.parametrize("form", ["plain", "all", "by split"])
def test_arrays_are_previewed_without_a_scenario(fedsim: Any, tmp_path: Path, form: str) -> None:
    code, out, err = fedsim("data", "preview", saved(tmp_path, form), "--out", tmp_path / "s.png")
    assert (code, err) == (0, "")
    all_images = out[out.index("\nall") :].split("\n")[1].split()[-3:]
    expected = {"plain": "12 0 0", "all": "4 4 4", "by split": "12 12 0"}[form]
    assert [n for n in all_images if n.isdecimal()] == expected.split()
    assert ("Bern" in out) == (form == "all")


def test_arrays_under_other_names_need_a_scenario(fedsim: Any, tmp_path: Path) -> None:
    code, _, err = fedsim("data", "preview", saved(tmp_path, "strange"))
    assert code == 2
    assert "s.npz: has the arrays x, y, none called images and labels" in err
    (tmp_path / "s.npz").write_text("no zip")
    assert "the file is damaged or no npz file" in fedsim("data", "preview", tmp_path / "s.npz")[2]


def test_what_a_preview_cannot_do_is_refused(
    fedsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, "by split")
    assert "--set changes a scenario" in fedsim("data", "preview", file, "--set", "seed=1")[2]
    code, _, err = fedsim("data", "preview", file, "--split", "test")
    assert code == 2
    assert "no site has a test image" in err
    assert [path.name for path in tmp_path.glob("*")] == ["s.npz"]


def test_many_classes_are_numbered_in_the_table(fedsim: Any, tmp_path: Path) -> None:
    names = np.array([f"finding of kind {number:02}" for number in range(8)])
    labels = names[np.arange(32) % 8]
    np.savez(tmp_path / "s.npz", images=np.zeros((32, 16, 16), np.uint8), labels=labels)
    code, out, _ = fedsim("data", "preview", tmp_path / "s.npz", "--out", tmp_path / "s.png")
    assert code == 0
    assert "classes: 0 finding of kind 00, 1 finding of kind 01" in out
    assert "…" not in out


def test_images_are_unpacked_with_their_manifest(
    fedsim: Any, quickstart: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "pictures"
    few = ["--set", "data.source.num_examples=120"]
    code, out, _ = fedsim("data", "unpack", quickstart, folder, *few)
    assert code == 0
    assert out.strip() == str(folder / "manifest.csv")
    assert len(list(folder.rglob("*.png"))) == 120
    code, _, err = fedsim("data", "unpack", quickstart, folder, *few)
    assert code == 2
    assert "exists and is not empty" in err
