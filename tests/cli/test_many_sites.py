"""The commands answer in a moment however many sites there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

MANY = """
version: 1
name: many
rounds: 2
data:
  source: {kind: synthetic, anatomy: chest, image_size: 16, num_examples: 120}
  task: binary
population:
  num_sites: 1000000
  partition: {kind: resampled, examples_per_site: [5, 9]}
  appearance: {kind: scanner, severity: severe}
model: {kind: mlp, widths: [8]}
client: {epochs: 1, batch_size: 4}
cohort: {kind: fixed_size, num_sites: 3}
evaluation: {loss_decomposition: false, num_resamples: 10}
"""
SENTENCE = (
    "1,000,000 sites, each of which draws 5 to 9 of the same 78 training images; the others are "
    "the server's"
)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    file = tmp_path / "many.yaml"
    file.write_text(MANY)
    return file


def test_validate_says_how_sites_draw(fedsim: Any, many: Path) -> None:
    code, out, err = fedsim("validate", many)
    assert (code, err) == (0, "")
    assert f"{SENTENCE}; classes: " in out


def test_a_plan_shows_the_pool(
    fedsim: Any, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.probe.PROBE_S", 0.01)
    code, out, err = fedsim("plan", many, "--out", tmp_path / "runs")
    assert (code, err) == (0, "")
    assert SENTENCE in out
    assert "3 of 1,000,000 sites, 2 to 3 steps each" in out
    (server,) = [line.split() for line in out.splitlines() if line.startswith("server")]
    assert server[-3:] == ["78", "18", "24"]
    assert not any(line.startswith("all ") for line in out.splitlines())
    code, out, _ = fedsim("plan", many, "--json", "--out", tmp_path / "runs")
    assert json.loads(out)["drawn"]["num_sites"] == 1_000_000


def test_a_preview_shows_the_first_sites_or_the_server(
    fedsim: Any, many: Path, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        target = tmp_path / f"{split}.png"
        code, out, _ = fedsim("data", "preview", many, "--split", split, "--out", target)
        assert code == 0
        assert SENTENCE in out
        assert target.stat().st_size > 1000


def test_a_run_and_its_report(fedsim: Any, many: Path, tmp_path: Path) -> None:
    code, out, _ = fedsim("run", many, "--out", tmp_path / "runs", "--run-name", "one")
    assert code == 0
    assert "No site has test images" in out.replace("\n", " ")
    text = (tmp_path / "runs" / "one" / "report" / "results.md").read_text()
    assert SENTENCE in text


def test_what_needs_every_site_is_refused(fedsim: Any, many: Path, tmp_path: Path) -> None:
    code, _, err = fedsim("run", many, "--leave-one-site-out", "--out", tmp_path / "runs")
    assert code == 2
    assert "none can be held out" in err
    code, _, err = fedsim("data", "unpack", many, tmp_path / "files")
    assert code == 2
    assert "unpack a scenario whose partition divides them" in err
