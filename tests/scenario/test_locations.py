"""Files lie beside the scenario that names them, and where they lie changes no study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fedsim.location import DIGEST, FOLDER, Location


class Holder(BaseModel):
    """Anything that names a file."""

    path: Location


def test_a_location_is_relative_to_its_folder(tmp_path: Path) -> None:
    holder = Holder.model_validate({"path": "a/../b.npz"}, context={FOLDER: tmp_path})
    assert holder.path == tmp_path / "b.npz"
    assert Holder.model_validate({"path": "/x/y"}, context={FOLDER: tmp_path}).path == Path("/x/y")
    home = Holder.model_validate({"path": "~/y"}, context={FOLDER: tmp_path}).path
    assert home == Path("~/y").expanduser()


def test_without_a_folder_it_is_relative_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Holder.model_validate({"path": "b.npz"}).path == tmp_path / "b.npz"


def test_a_digest_sees_the_name_alone(tmp_path: Path) -> None:
    holder = Holder(path=tmp_path / "b.npz")
    assert holder.model_dump(mode="json") == {"path": str(tmp_path / "b.npz")}
    assert holder.model_dump(mode="json", context={DIGEST: True}) == {"path": "b.npz"}


def test_a_scenario_finds_its_files_and_keeps_its_digest_elsewhere(
    author: Any, tmp_path: Path
) -> None:
    changes = ("model={kind: small_cnn, widths: [8], weights: start.safetensors}",)
    here = author.load(changes=changes)
    assert here.model.weights == tmp_path / "start.safetensors"
    author.path = tmp_path / "elsewhere" / "study.yaml"
    author.path.parent.mkdir()
    there = author.load(changes=changes)
    assert there.model.weights == tmp_path / "elsewhere" / "start.safetensors"
    assert here.digest == there.digest
    assert here.digest != author.load(changes=("model={kind: small_cnn, widths: [8]}",)).digest
