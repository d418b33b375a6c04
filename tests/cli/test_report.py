"""`fedsim report` and `fedsim cite`: of runs, studies and scenarios."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

SCENARIO = """\
version: 1
name: tiny
rounds: 1
data: {source: {kind: synthetic, image_size: 16, num_examples: 120}, task: binary,
       label_map: {0: 0, 1: 0, 2: 1, 3: 1, 4: 1}}
population: {num_sites: 2}
model: {kind: mlp}
client: {steps: 1, batch_size: 8, objective: {kind: margin}}
strategy: {kind: principal_gradient}
evaluation: {metrics: [loss], select_by: loss, loss_decomposition: false, num_resamples: 0}
"""
STUDY = """\
version: 1
name: tiny
question: Which one?
base: tiny.yaml
primary: {metric: loss, reference: mean, smallest_difference_of_interest: 0.1}
methods:
  mean: {set: {strategy: {kind: weighted_mean}}}
  tuned:
    tune:
      client.optimizer: [{kind: sgd, learning_rate: 0.1}, {kind: adam, learning_rate: 0.01}]
tune: {trials: 3, seeds: [1000]}
seeds: 1
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return path


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{([^,]+),$", text, re.MULTILINE)


@pytest.mark.slow
def test_a_run_ends_with_its_page_and_several_can_be_made_again(
    fedsim: Any, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    code, said, _ = fedsim("run", scenario, "--out", out, "--run-name", "one")
    assert code == 0
    assert f"page: {out / 'one' / 'report' / 'index.html'}" in said
    assert fedsim("run", scenario, "--out", out, "--run-name", "two", "-q")[0] == 0
    pages = [out / name / "report/index.html" for name in ("one", "two")]
    before = [page.read_bytes() for page in pages]
    assert b"Training images of each site" in before[0]  # synthetic ones: anyone may see them
    for page in pages:
        page.unlink()
    code, said, _ = fedsim("report", out / "one", out / "two")
    assert code == 0
    assert said.splitlines()[-1] == str(out / "two")
    assert [page.read_bytes() for page in pages] == before
    entries = keys(fedsim("cite", out / "one")[1])
    assert entries == keys(fedsim("cite", scenario)[1])


def test_what_to_cite_of_a_scenario(fedsim: Any, scenario: Path) -> None:
    code, out, err = fedsim("cite", scenario)
    assert (code, err) == (0, "")
    assert keys(out) == [
        "zeng2024fedld",  # objective and strategy: one paper, named once
        "beutel2020flower",
        "paszke2019pytorch",
        "pedregosa2011scikit",
    ]
    changed = fedsim("cite", scenario, "--set", "client.optimizer={kind: adam, learning_rate: 1}")
    assert "kingma2015adam" in keys(changed[1])


def test_a_study_is_cited_by_file_and_by_folder(
    fedsim: Any, scenario: Path, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    of_the_file = keys(fedsim("cite", file)[1])
    assert {"zeng2024fedld", "mcmahan2017communication", "kingma2015adam"} <= {*of_the_file}
    folder = fedsim("study", file, "--out", tmp_path, "--device", "cpu", "-q")[1].strip()
    of_the_runs = keys(fedsim("cite", folder)[1])
    assert {"zeng2024fedld", "mcmahan2017communication"} <= {*of_the_runs} <= {*of_the_file}
    shutil.rmtree(tmp_path / "cells")
    assert keys(fedsim("cite", folder)[1]) == of_the_file


@pytest.mark.parametrize("command", ["report", "cite"])
def test_what_is_neither_is_refused(fedsim: Any, tmp_path: Path, command: str) -> None:
    code, out, err = fedsim(command, tmp_path)
    assert (code, out) == (2, "")
    assert "is no run folder" in err
